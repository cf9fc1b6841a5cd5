"""Contract: recompute changes memory and time, and not a bit of anything else."""

import copy
import gc
import itertools
import pickle
import weakref

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn

from infopro_seg.models.local_module import LocalModule
from infopro_seg.models.recompute.buffers import EarlierBuffers
from infopro_seg.models.recompute.run import recomputed, run_recomputed
from infopro_seg.settings.recompute_mode import RecomputeMode
from infopro_seg.units import State, fold, units_of
from tests.backbones import BACKBONES
from tests.equivalence.test_unit_fold import run as run_network
from tests.helpers import (
    assert_equal,
    batch,
    build,
    deeplabv3,
    early_backward,
    gradients,
    localized,
    losses_of,
)
from tests.runs import run_training
from tests.samples import some_of

EVERYTHING = ['all', 'decode_head']
STEPWISE = ['all:stepwise', 'decode_head:stepwise']
MODELS = {
    'resnet18': deeplabv3(),
    'resnet18-frozen': deeplabv3(BACKBONES['resnet18-frozen']),
    'resnet50': deeplabv3(BACKBONES['resnet50'], widths=(32, 64, 128, 256)),
    'mobilenet_v2': deeplabv3(BACKBONES['mobilenet_v2'], widths=(8, 8, 24, 80)),
}


def step(model, *, early=True):
    """Losses, gradients, buffers and the state of the random generator of a step."""
    model.local_backward = early_backward if early else None
    losses = losses_of(model)
    model.parse_losses(losses)[0].backward()
    return {
        **losses,
        **gradients(model),
        **{f'buffer {name}': value for name, value in model.named_buffers()},
        'generator': torch.get_rng_state(),
    }


def count_runs(module):
    """A list that grows by one whenever the module runs."""
    runs = []
    module.register_forward_pre_hook(lambda module, args: runs.append(module))
    return runs


@pytest.mark.parametrize(
    ('num_modules', 'early'),
    some_of(itertools.product([1, 3], [True, False]), (3, True)),
)
@pytest.mark.parametrize('recompute', [EVERYTHING, STEPWISE], ids=['whole', 'stepwise'])
@pytest.mark.parametrize('name', some_of(MODELS, 'resnet18', 'mobilenet_v2'))
def test_losses_gradients_and_buffers_keep_every_bit(
    name, recompute, num_modules, early
):
    plain = build(localized(MODELS[name], num_modules=num_modules))
    again = build(localized(MODELS[name], num_modules=num_modules, recompute=recompute))
    runs = count_runs(again.backbone.get_submodule(units_of(again.backbone)[-1].name))
    assert_equal(step(plain, early=early), step(again, early=early))
    assert len(runs) == (2 if recompute is EVERYTHING else 1)


def all_units(backbone, mode=RecomputeMode.WHOLE):
    units = units_of(backbone)
    return LocalModule(0, units, {unit.name: mode for unit in units})


@pytest.mark.parametrize('mode', [RecomputeMode.WHOLE, RecomputeMode.STEPWISE])
@pytest.mark.parametrize('name', some_of(BACKBONES, 'swin', 'hrnet', 'unet'))
def test_every_family_of_backbones_can_be_recomputed(name, mode):
    def fold_recomputed(backbone, image):
        return all_units(backbone, mode)(backbone, State(image)).result()

    plain_structure, plain = run_network(build(BACKBONES[name]), fold)
    structure, again = run_network(build(BACKBONES[name]), fold_recomputed)
    assert structure == plain_structure
    assert_equal(plain, again)


def test_recomputing_some_units_leaves_the_others_alone():
    model = localized(deeplabv3(), num_modules=3, recompute=['layer2.0', 'layer4.1'])
    again = build(model)
    runs = {unit.name: [] for unit in units_of(again.backbone)}
    for name in runs:
        runs[name] = count_runs(again.backbone.get_submodule(name))
    assert_equal(step(build({**model, 'local': {'num_modules': 3}})), step(again))
    twice = [name for name, calls in runs.items() if len(calls) == 2]
    assert twice == ['layer2.0', 'layer4.1']


def test_the_first_unit_behind_a_wall_is_recomputed_too():
    # Its input needs no gradient: the reentrant form would silently keep everything.
    model = build(localized(deeplabv3(), splits=['layer3.0'], recompute=['layer3.1']))
    runs = count_runs(model.backbone.layer3[1])
    step(model)
    assert len(runs) == 2


def test_running_statistics_are_updated_once_a_step():
    model = build(localized(deeplabv3(), num_modules=3, recompute=EVERYTHING))
    step(model)
    counts = {
        name: int(value)
        for name, value in model.named_buffers()
        if name.endswith('num_batches_tracked')
    }
    assert set(counts.values()) == {1}


def test_dropout_inside_a_unit_draws_the_same_numbers():
    steps = []
    for recompute in (None, ['layer3.0', 'layer3.1']):
        model = build(localized(deeplabv3(), num_modules=2, recompute=recompute))
        for block in model.backbone.layer3:
            block.relu = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
        steps.append(step(model))
    assert_equal(*steps)


@pytest.mark.parametrize('again', [EVERYTHING, STEPWISE], ids=['whole', 'stepwise'])
def test_autocast_is_repeated(again):
    steps = []
    for recompute in (None, again):
        model = build(localized(deeplabv3(), num_modules=3, recompute=recompute))
        dtypes = []
        model.backbone.layer2[0].conv1.register_forward_hook(
            lambda conv, args, output, dtypes=dtypes: dtypes.append(output.dtype)
        )
        with torch.autocast('cpu', dtype=torch.bfloat16):
            model.local_backward = early_backward
            losses = losses_of(model)
        model.parse_losses(losses)[0].backward()
        assert set(dtypes) == {torch.bfloat16}
        steps.append({**losses, **gradients(model), **dict(model.named_buffers())})
    assert_equal(*steps)


@pytest.mark.parametrize('again', [EVERYTHING, STEPWISE], ids=['whole', 'stepwise'])
def test_a_graph_can_be_differentiated_twice(again):
    steps = []
    for recompute in (None, again):
        model = build(localized(deeplabv3(), num_modules=1, recompute=recompute))
        loss = model.parse_losses(losses_of(model))[0]
        loss.backward(retain_graph=True)
        loss.backward()
        steps.append({**gradients(model), **dict(model.named_buffers())})
    assert_equal(*steps)


def test_training_with_the_hook_reaches_the_same_weights(tmp_path):
    runs = [
        run_training(
            localized(deeplabv3(), num_modules=3, recompute=recompute),
            tmp_path / name,
            hooks=[{'type': 'EMAHook'}, {'type': 'LocalBackwardHook'}],
            optim_wrapper={'accumulative_counts': 2, 'clip_grad': {'max_norm': 1.0}},
        )
        for name, recompute in {'plain': None, 'again': EVERYTHING}.items()
    ]
    assert_equal(*(run.model.state_dict() for run in runs))
    averages = [
        next(h for h in run.hooks if type(h).__name__ == 'EMAHook').ema_model
        for run in runs
    ]
    assert_equal(*(average.state_dict() for average in averages))


@pytest.mark.dist
def test_distributed_training_with_early_backward_reaches_the_same_gradients(tmp_path):
    plain = step(build(localized(deeplabv3(), num_modules=3)))
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        model = build(localized(deeplabv3(), num_modules=3, recompute=EVERYTHING))
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=True)
        model.local_backward = early_backward
        data = model.data_preprocessor(batch(), training=True)
        torch.manual_seed(1)
        losses = wrapped(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
    finally:
        torch.distributed.destroy_process_group()
    for name, gradient in gradients(model).items():
        assert torch.equal(gradient, plain[name]), name


def data_samples():
    return batch()['data_samples']


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_recomputes_itself(copied):
    model = build(localized(deeplabv3(), num_modules=3, recompute=EVERYTHING))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = step(copied(model))
    # Had the original run in its place, its running statistics would have changed.
    assert_equal(before, model.state_dict())
    assert_equal(step(model), result)


class Saved:
    """Holds what autograd saves, so that its lifetime can be watched."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'mobilenet_v2'])
def test_a_recomputed_unit_keeps_only_its_input(name):
    backbone = build(BACKBONES[name])
    units = units_of(backbone)
    inputs, saved = [], []
    for unit in units:
        path = 'conv1' if unit.name == 'conv1' else unit.name
        backbone.get_submodule(path).register_forward_pre_hook(
            lambda module, args: inputs.append(args[0].data_ptr())
        )

    def pack(tensor):
        holder = Saved(tensor.detach())
        saved.append(weakref.ref(holder))
        return holder

    module = all_units(backbone)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor):
        state = module(backbone, State(torch.randn(2, 3, 64, 64)))
    kept = [ref().tensor.data_ptr() for ref in saved if ref() is not None]
    assert kept == inputs[: len(units)]
    assert state.requires_grad


def test_stage_outputs_do_not_live_on_in_a_recomputed_unit():
    # Saved tensors are visible to hooks; what a closure keeps alive is not.
    backbone = build(BACKBONES['resnet18'])
    output = torch.randn(2, 3, 4, 4)
    reference = weakref.ref(output)
    image = torch.randn(2, 3, 64, 64)
    state = run_recomputed(
        units_of(backbone)[0], backbone, State(image, None, (output,))
    )
    assert state.outputs == (output,)
    x = state.x
    del state, output
    gc.collect()
    assert x.requires_grad
    assert reference() is None


def test_the_recomputed_decode_head_keeps_no_branch_twice():
    # The concatenation keeps what the branches' activations were.
    sizes = []
    for recompute in (None, ['decode_head']):
        config = localized(deeplabv3(auxiliary=None), recompute=recompute, splits=[])
        model = build(config)
        features = model.extract_feat(torch.randn(2, 3, 64, 64))
        saved = {}

        def pack(tensor, saved=saved):
            holder = Saved(tensor.detach())
            saved[tensor.data_ptr()] = weakref.ref(holder)
            return holder

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda h: h.tensor):
            losses = model._decode_head_forward_train(features, data_samples())
        kept = [ref() for ref in saved.values() if ref() is not None]
        sizes.append(sum(holder.tensor.nbytes for holder in kept))
        assert losses['decode.loss_ce'].requires_grad
    # Two branches and the bottleneck of 16 channels at stride 8, and the pooled one.
    branch = 2 * 16 * 8 * 8 * 4
    assert sizes[0] - sizes[1] >= 2 * branch


class Average(nn.Module):
    """Multiplies by a buffer, then changes it: a second run would see another one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.register_buffer('average', torch.tensor(3.0))

    def forward(self, x):
        y = x * self.weight * self.average.clone()
        self.average.mul_(0.5).add_(x.detach().mean())
        return y.exp()  # a second run stops where the last tensor is saved


def test_buffers_that_a_module_reads_before_it_changes_them_are_as_they_were():
    results = []
    for again in (False, True):
        module, x = Average(), torch.tensor([0.1, 0.2])
        y = recomputed(module, x, modules=[module]) if again else module(x)
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        results.append({'grad': module.weight.grad, 'average': module.average})
    assert_equal(*results)


def test_an_error_while_recomputing_leaves_the_buffers_in_place():
    module, x, fail = Average(), torch.tensor([0.1, 0.2]), []

    def run(x):
        y = module(x)
        if fail:
            raise OSError('no more')
        return y.square().square()

    loss = recomputed(run, x, modules=[module]).sum()
    average = module.average
    fail.append(True)
    with pytest.raises(OSError, match='no more'):
        loss.backward()
    assert module.average is average


def test_without_gradients_nothing_is_kept_for_later():
    model = build(localized(deeplabv3(), num_modules=1, recompute=EVERYTHING))
    plain = build(localized(deeplabv3(), num_modules=1))
    with torch.no_grad():
        assert_equal(losses_of(plain), losses_of(model))


def test_copies_of_what_a_forward_pass_leaves_alone_are_not_kept():
    module = nn.Module()
    module.register_buffer('index', torch.arange(8))
    module.register_buffer('counter', torch.zeros((), dtype=torch.long))
    module.register_buffer('replaced', torch.zeros(2, dtype=torch.long))
    module.register_buffer('statistics', torch.zeros(3))
    earlier = EarlierBuffers([module])
    with earlier.noting_changes():
        module.counter.add_(1)
        module.replaced = module.replaced + 1
    own = module.index
    with earlier:
        assert module.index is own
        assert not module.counter
        assert not module.replaced.any()
        assert module.statistics.shape == (3,)
    assert module.counter == 1
    assert module.replaced.all()
