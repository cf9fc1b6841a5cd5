"""Contract: blocks that checkpoint themselves change memory and time, and no bit."""

import copy
import functools
import pickle

import pytest
import torch
import torch.utils.checkpoint
from mmengine.model import MMDistributedDataParallel
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from infopro_seg.models import isolation
from infopro_seg.planner.make import Setting, make_plan
from infopro_seg.units import units_of
from tests.backbones import BACKBONES
from tests.equivalence.test_recompute import count_runs, step
from tests.helpers import (
    NARROW,
    WIDTHS,
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
from tests.units.networks import segmentor

AHEAD = {'look_ahead': 2}
SPLITS = ['layer1.1', 'layer3.0']
#: What a model can be told, beside ``with_cp``.
LOCAL = {
    'stock': {'num_modules': 1},
    'walls': {'num_modules': 3},
    'look-ahead': {'num_modules': 3, 'head': AHEAD},
    'look-ahead through all': {'num_modules': 2, 'head': {'look_ahead': 99}},
    'exact': {'num_modules': 3, 'end_to_end_every': 1},
    'exact, recomputed': {
        'num_modules': 3,
        'end_to_end_every': 1,
        'recompute': ['all'],
    },
    'deep supervision': {'num_modules': 3, 'deep_supervision': True, 'head': AHEAD},
    'recomputed': {'num_modules': 3, 'recompute': ['all'], 'head': AHEAD},
    'stepwise': {'num_modules': 3, 'recompute': ['all:stepwise'], 'head': AHEAD},
}
FAMILIES = [
    name
    for name, backbone in BACKBONES.items()
    if backbone['type']
    in {'ResNet', 'ResNetV1d', 'ResNeXt', 'ResNeSt', 'HRNet', 'UNet'}
    or backbone['type'] in {'MobileNetV2', 'MobileNetV3', 'SwinTransformer'}
    or backbone['type'] in {'MixVisionTransformer', 'VisionTransformer'}
    if name not in ('mobilenet_v2-bare', 'mobilenet_v3-large', 'swin-frozen')
]


def with_cp(model, value=True):
    model = copy.deepcopy(model)
    model['backbone']['with_cp'] = value
    return model


def steps(model, *, num_modules, **local):
    """A step without checkpoints, and one with them and the same walls."""
    # Checkpoints change what modules need, and so where `num_modules` cuts.
    splits = build(localized(model, num_modules=num_modules)).local['splits']
    found = []
    for value in (False, True):
        network = build(localized(with_cp(model, value), splits=splits, **local))
        found.append(step(network))
    return found


@pytest.mark.parametrize(
    ('name', 'local'),
    some_of(
        [(name, local) for name in FAMILIES for local in LOCAL],
        ('resnet50', 'look-ahead'),
        ('mobilenet_v2', 'exact'),
        ('hrnet', 'look-ahead'),
        ('swin', 'look-ahead'),
        ('mit', 'look-ahead'),
        ('unet', 'exact'),
    ),
)
def test_losses_gradients_and_buffers_are_those_without(name, local):
    assert_equal(*steps(segmentor(name), **LOCAL[local]))


@pytest.mark.parametrize('local', LOCAL)
def test_every_setting_has_the_gradients_and_buffers_without(local):
    model = deeplabv3(NARROW, WIDTHS)
    assert_equal(*steps(model, **LOCAL[local]))


@pytest.mark.parametrize(
    ('local', 'times'),
    [
        ('stock', 2),
        ('look-ahead', 2),
        # The first run of a segment, the second one, and that of the block.
        ('exact', 3),
        # The unit, which runs again as a whole, takes the place of its block.
        ('recomputed', 2),
        ('stepwise', 1),
    ],
)
def test_blocks_do_run_again(local, times):
    model = deeplabv3(NARROW, WIDTHS)
    settings = {**LOCAL[local], 'head': None}
    if settings['num_modules'] > 1:
        del settings['num_modules']
        settings['splits'] = ['layer4.0']
    network = build(localized(with_cp(model), **settings))
    runs = count_runs(network.backbone.layer3[1].conv1)
    step(network)
    assert len(runs) == times


class OwnBlock(nn.Module):
    """Checkpoints itself; ``with_cp`` is no attribute of it.

    Its own buffer, which its output depends on, is written inside the checkpoint, and
    its modules are called from a list.
    """

    def __init__(self, block, how, width):
        super().__init__()
        self.block = block
        self.more = nn.ModuleList([nn.BatchNorm2d(width), nn.Conv2d(width, width, 1)])
        self.how = how
        self.register_buffer('seen', torch.ones(()))

    def forward(self, x):
        def inner(x):
            self.seen += 0.5
            return self.block(x) * self.seen

        more = list(self.more)
        if self.how == 'never' or not x.requires_grad:
            return more[1](more[0](inner(x)))
        if self.how == 'nested':
            again = functools.partial(checkpoint, inner, use_reentrant=True)
            x = checkpoint(again, x, use_reentrant=True)
            return checkpoint_sequential(more, 2, x, use_reentrant=True)
        x = checkpoint(inner, x, use_reentrant=self.how == 'reentrant')
        return checkpoint_sequential(more, 2, x, use_reentrant=self.how == 'reentrant')


def own_blocks(how, **local):
    model = build(localized(deeplabv3(NARROW, WIDTHS), **local))
    torch.manual_seed(0)
    for stage, width in (('layer2', 16), ('layer3', 32)):
        blocks = getattr(model.backbone, stage)
        blocks[1] = OwnBlock(blocks[1], how, width)
    return model


@pytest.mark.parametrize('local', LOCAL)
@pytest.mark.parametrize('how', ['reentrant', 'without reentrance', 'nested'])
def test_blocks_of_ones_own_change_nothing_either(how, local):
    plain, again = own_blocks('never', **LOCAL[local]), own_blocks(how, **LOCAL[local])
    assert_equal(step(plain), step(again))


def test_weights_that_were_constant_are_constant_when_a_block_runs_again():
    model = build(
        localized(with_cp(deeplabv3(NARROW, WIDTHS)), splits=SPLITS, head=AHEAD)
    )
    conv = model.backbone.layer2[1].conv1
    trained = []
    conv.register_forward_pre_hook(
        lambda conv, args: trained.append(conv.weight.requires_grad)
    )
    step(model)
    # Looked through, twice; then in its own module, twice.
    assert trained == [False, False, True, True]
    assert conv.weight.requires_grad


def test_dropout_and_autocast_are_repeated():
    found = []
    for value in (False, True):
        model = build(localized(with_cp(segmentor('swin'), value), **LOCAL['exact']))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = losses_of(model)
        model.parse_losses(losses)[0].backward()
        found.append({**losses, **gradients(model)})
    assert_equal(*found)


def test_a_graph_can_be_differentiated_twice():
    found = []
    for value in (False, True):
        stock = with_cp(deeplabv3(NARROW, WIDTHS), value)
        model = build(localized(stock, splits=SPLITS))
        loss = model.parse_losses(losses_of(model))[0]
        loss.backward(retain_graph=True)
        loss.backward()
        found.append({**gradients(model), **dict(model.named_buffers())})
    assert_equal(*found)


def test_torch_is_as_before_after_a_step_and_after_an_error():
    before = {**vars(torch.utils.checkpoint)}
    model = build(localized(with_cp(deeplabv3(NARROW, WIDTHS)), **LOCAL['look-ahead']))
    step(model)
    assert vars(torch.utils.checkpoint) == before

    def fail(*args):
        raise OSError('in the middle')

    model.backbone.layer3[1].conv1.forward = fail
    with pytest.raises(OSError, match='in the middle'):
        step(model)
    assert vars(torch.utils.checkpoint) == before
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copy_trains_as_its_original(copied):
    model = build(localized(with_cp(deeplabv3(NARROW, WIDTHS)), **LOCAL['look-ahead']))
    assert_equal(step(copied(model)), step(model))


def test_training_with_the_hook_reaches_the_same_weights(tmp_path):
    runs = [
        run_training(
            localized(
                with_cp(deeplabv3(NARROW, WIDTHS), value),
                splits=SPLITS,
                head=AHEAD,
                end_to_end_every=2,
            ),
            tmp_path / str(value),
            hooks=[{'type': 'EMAHook'}, {'type': 'LocalBackwardHook'}],
            optim_wrapper={'accumulative_counts': 2, 'clip_grad': {'max_norm': 1.0}},
        )
        for value in (False, True)
    ]
    assert_equal(*(run.model.state_dict() for run in runs))


@pytest.mark.dist
def test_distributed_training_reaches_the_same_gradients(tmp_path):
    model = deeplabv3(NARROW, WIDTHS)
    plain = step(build(localized(model, splits=SPLITS, head=AHEAD)))
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        network = build(localized(with_cp(model), splits=SPLITS, head=AHEAD))
        wrapped = MMDistributedDataParallel(network, find_unused_parameters=True)
        network.local_backward = early_backward
        data = network.data_preprocessor(batch(), training=True)
        torch.manual_seed(1)
        losses = wrapped(**data, mode='loss')
        network.parse_losses(losses)[0].backward()
    finally:
        torch.distributed.destroy_process_group()
    for name, gradient in gradients(network).items():
        assert torch.equal(gradient, plain[name]), name


@pytest.mark.parametrize(
    ('name', 'local'),
    some_of(
        [
            (name, local)
            for name in ('resnet18', 'mit', 'unet')
            for local in ('walls', 'look-ahead', 'exact')
        ],
        ('resnet18', 'look-ahead'),
    ),
)
def test_the_planner_knows_what_it_costs(name, local):
    stock = deeplabv3(NARROW, WIDTHS) if name == 'resnet18' else segmentor(name)
    setting = Setting(localized(with_cp(stock), **LOCAL[local]), 2, (64, 96))
    plan = make_plan(setting, num_modules=3)
    error = plan.predicted_peak_bytes / plan.tracked_peak_bytes - 1
    assert -0.01 < error < 0.03


class RunsAgain(torch.autograd.Function):
    """Reentrant checkpointing that torch does not know of."""

    @staticmethod
    def forward(ctx, block, x):
        ctx.block = block
        ctx.save_for_backward(x)
        return block(x)

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            made = ctx.block(x)
        torch.autograd.backward(made, grad)
        return None, x.grad


class AlienBlock(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return RunsAgain.apply(self.block, x)


@pytest.mark.parametrize(
    ('frozen', 'what'),
    [(False, 'the gradient of'), (True, 'the running statistics of')],
)
def test_a_block_that_gets_around_the_walls_stops_the_first_step(frozen, what):
    model = build(localized(deeplabv3(NARROW, WIDTHS), num_modules=2, head=AHEAD))
    name = model.units_ahead[0][0].name
    stage, index = name.split('.')
    blocks = model.backbone.get_submodule(stage)
    blocks[int(index)] = AlienBlock(blocks[int(index)].requires_grad_(not frozen))
    text = rf'backward pass of local_0 .* {what} backbone\.{name}\..*remove look_ahead'
    with pytest.raises(RuntimeError, match=text):
        step(model)


def test_gradients_that_were_there_before_are_no_sign_of_it(monkeypatch):
    looked = []
    stock = isolation._traces
    monkeypatch.setattr(
        isolation, '_traces', lambda *args: looked.append(args) or stock(*args)
    )
    model = build(localized(deeplabv3(NARROW, WIDTHS), num_modules=3, head=AHEAD))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step(model)
    assert len(looked) == 4  # before and after two modules
    step(model)
    assert len(looked) == 4  # the first step only


def test_every_family_of_the_host_with_such_blocks_is_tried():
    for name in FAMILIES:
        backbone = build(with_cp({'backbone': BACKBONES[name]})['backbone'])
        assert any(getattr(m, 'with_cp', False) for m in backbone.modules()), name
        assert units_of(backbone)
