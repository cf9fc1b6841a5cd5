"""Gradients that wait for a step are kept for each process."""

import pytest
import torch
from torch import nn

from infopro_seg.engine.accumulated_gradients import gather_gradients, set_gradients
from tests.processes import start


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def fill(model, value, without=()):
    for name, parameter in model.named_parameters():
        if name not in without:
            parameter.grad = torch.full_like(parameter, value)


def grads(model):
    return {
        name: None if p.grad is None else float(p.grad.mean())
        for name, p in model.named_parameters()
    }


def test_what_is_saved_is_put_back():
    model, other = network(), network()
    fill(model, 2.0, without=['1.bias'])
    gathered = gather_gradients(model, 1)
    set_gradients(other, gathered, 0)
    assert grads(other) == grads(model)
    assert grads(other)['1.bias'] is None
    # The file's values do not change with those of the model.
    other[0].weight.grad += 1
    assert float(gathered[0]['0.weight'].mean()) == 2.0


def test_without_gradients_nothing_is_saved_or_put_back():
    assert gather_gradients(network(), 1) == []
    model = network()
    set_gradients(model, [], 0)
    assert set(grads(model).values()) == {None}


def test_another_number_of_processes_gets_the_mean():
    # Which DDP would have made of them, taking what is missing for 0.
    one = {'0.weight': torch.full((3, 2), 1.0)}
    other = {'0.weight': torch.full((3, 2), 3.0), '0.bias': torch.full((3,), 3.0)}
    model = network()
    set_gradients(model, [one, other], None)
    expected = {'0.weight': 2.0, '0.bias': 1.5, '1.weight': None, '1.bias': None}
    assert grads(model) == expected


def test_another_unit_is_a_factor():
    model = network()
    set_gradients(model, [{'0.bias': torch.full((3,), 3.0)}], 0, factor=0.5)
    assert grads(model)['0.bias'] == 1.5


def rank_main(rank, folder):
    store = torch.distributed.FileStore(f'{folder}/store', 2)
    torch.distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    model = network()
    fill(model, float(rank + 1), without=['1.bias'] if rank else [])
    gathered = gather_gradients(model, 2)
    assert bool(gathered) == (rank == 0)
    gathered = gathered if rank == 0 else None
    box = [gathered]
    torch.distributed.broadcast_object_list(box)
    fresh = network()
    set_gradients(fresh, box[0], rank)
    torch.save([grads(model), grads(fresh)], f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
def test_each_process_gets_its_own(tmp_path):
    start(rank_main, (str(tmp_path),), 2)
    for rank in (0, 1):
        saved, restored = torch.load(tmp_path / f'{rank}.pth')
        assert saved == restored
    assert restored['1.bias'] is None
