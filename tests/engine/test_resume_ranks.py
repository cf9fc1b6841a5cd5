"""Two processes that are killed and resumed end as two that nobody disturbed."""

import os

import pytest
import torch

from tests.engine.runs import (
    Killed,
    KillHook,
    assert_same_checkpoint,
    loader,
    resume,
    runner_of,
)
from tests.processes import start

SETTINGS = {
    'interval': 3,
    'iterations': 8,
    'optim_wrapper': {'accumulative_counts': 2},
    'launcher': 'pytorch',
    'cfg': {
        'model_wrapper_cfg': {
            'type': 'MMDistributedDataParallel',
            'device_ids': None,
            'broadcast_buffers': False,
            'find_unused_parameters': True,
        }
    },
}


def rank_main(rank, folder):
    os.environ['LOCAL_RANK'] = str(rank)
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / 'store'), 2)
    torch.distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    data = loader(sampler='DefaultSampler')
    data['sampler']['shuffle'] = True
    settings = {
        **SETTINGS,
        'train_dataloader': data,
        'train_cfg': {'type': 'EpochBasedTrainLoop', 'max_epochs': 4},
    }
    runner_of(folder / 'whole', **settings).train()
    with pytest.raises(Killed):
        runner_of(folder / 'killed', hooks=[KillHook(5)], **settings).train()
    torch.distributed.barrier()
    resume(folder / 'killed', **settings)
    torch.distributed.destroy_process_group()


@pytest.mark.dist
@pytest.mark.exhaustive
def test_a_resumed_run_of_two_processes_ends_as_the_undisturbed_one(tmp_path):
    # Epochs of 2 iterations, a checkpoint in the middle of the second one, between
    # two halves of a step: each process has accumulated gradients of its own.
    start(rank_main, (tmp_path,), 2)
    middle = torch.load(tmp_path / 'whole' / 'iter_3.pth', weights_only=False)
    one, other = middle['gradients']['processes']
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert_same_checkpoint(
        tmp_path / 'whole' / 'iter_8.pth', tmp_path / 'killed' / 'iter_8.pth'
    )
