"""Stepwise recompute, operator by operator."""

import collections
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from infopro_seg.models.recompute.stepwise import stepwise_recompute
from infopro_seg.planner.profile.allocation import AllocationTracker

CONVOLUTION = torch.ops.aten.convolution.default
BATCH_NORM = torch.ops.aten.native_batch_norm.default


class Counts(TorchDispatchMode):
    """Counts operators."""

    def __init__(self):
        super().__init__()
        self.operators = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators[func] += 1
        return func(*args, **(kwargs or {}))


RELU = nn.ReLU(inplace=True)


def conv_norm_act(act=RELU, widths=(3, 8, 8, 4)):
    layers = []
    for before, after in zip(widths, widths[1:], strict=False):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), act]
    return nn.Sequential(*layers)


def image():
    return torch.randn(2, 3, 8, 8)


def forward(module, x, *, stepwise):
    if not stepwise:
        return module(x)
    with stepwise_recompute():
        return module(x)


def gradients(module, x, *, stepwise, keep_products=False, autocast=False):
    """The gradients, and the operators of forward and backward."""
    module.zero_grad()
    with Counts() as counts, torch.autocast('cpu', enabled=autocast):
        if stepwise:
            with stepwise_recompute(keep_products=keep_products) as recorder:
                y = module(x)
                recorder.keep([y])
        else:
            y = module(x)
        y.float().square().sum().backward()
    result = [parameter.grad.clone() for parameter in module.parameters()]
    return [*result, *module.buffers()], counts.operators


def assert_same(first, second):
    assert len(first) == len(second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


ACTIVATIONS = [
    RELU,
    nn.ReLU(),
    nn.ReLU6(inplace=True),
    nn.LeakyReLU(0.1, inplace=True),
    nn.SiLU(inplace=True),
    nn.Hardswish(inplace=True),
    nn.Hardswish(),
    nn.GELU(),
    nn.Sigmoid(),
    nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5)),
]


@pytest.mark.parametrize('autocast', [False, True], ids=['float32', 'autocast'])
@pytest.mark.parametrize('act', ACTIVATIONS, ids=str)
def test_gradients_keep_every_bit(act, autocast):
    x, results = image(), []
    for stepwise in (False, True):
        torch.manual_seed(1)
        module = conv_norm_act(act)
        results.append(gradients(module, x, stepwise=stepwise, autocast=autocast)[0])
    assert_same(*results)


def test_each_convolution_is_computed_again_once_and_norms_are_not():
    # An activation is the input of a convolution, or the output of all.
    _, plain = gradients(conv_norm_act(), image(), stepwise=False)
    _, again = gradients(conv_norm_act(), image(), stepwise=True)
    assert (plain[CONVOLUTION], again[CONVOLUTION]) == (3, 6)
    assert again[BATCH_NORM] == plain[BATCH_NORM] == 3


def test_what_follows_convolutions_is_computed_again_if_their_results_are_kept():
    _, counts = gradients(conv_norm_act(), image(), stepwise=True, keep_products=True)
    assert counts[CONVOLUTION] == 3
    # The last activation is the output, which stays alive anyway.
    assert counts[BATCH_NORM] == 5


class Branches(nn.Module):
    """Branches that are concatenated, as in a pyramid pooling head."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(conv_norm_act(widths=(3, 4)) for _ in range(4))
        self.fuse = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        return self.fuse(torch.cat([branch(x) for branch in self.branches], dim=1))


def test_branches_come_back_one_at_a_time():
    x, peaks = torch.randn(2, 3, 64, 64), []
    for stepwise in (False, True):
        torch.manual_seed(1)
        module = Branches()
        tracker = AllocationTracker()
        tracker.track_module(module)
        tracker.track([x])
        with tracker:
            y = forward(module, x, stepwise=stepwise)
            kept = tracker.live_bytes
            y.sum().backward()
        peaks.append((kept, tracker.peak_bytes))
        assert all(p.grad is not None for p in module.parameters())
    branch = 2 * 4 * 64 * 64 * 4
    (plain_kept, plain_peak), (kept, peak) = peaks
    # Convolution and activation of every branch are not kept.
    assert plain_kept - kept >= 8 * branch
    # Backward holds two of the four kinds of a single branch.
    assert plain_peak - peak >= 6 * branch


@pytest.mark.parametrize('act', [RELU, nn.Sigmoid()], ids=str)
def test_nothing_outlives_the_graph(act):
    # A cycle would keep maps until the garbage collector runs.
    gc.collect()
    gc.disable()
    try:
        module, x = conv_norm_act(act), image()
        storage = weakref.ref(x.untyped_storage())
        with stepwise_recompute() as recorder:
            y = module(x)
            recorder.keep([y])
        output = weakref.ref(y.untyped_storage())
        y.sum().backward()
        del x, y, recorder
        assert storage() is None
        assert output() is None
    finally:
        gc.enable()


@pytest.mark.parametrize('act', [RELU, nn.Sigmoid()], ids=str)
def test_a_graph_that_is_not_differentiated_is_freed(act):
    gc.collect()
    gc.disable()
    try:
        x = image()
        with stepwise_recompute():
            y = conv_norm_act(act)(x)
        storages = [weakref.ref(t.untyped_storage()) for t in (x, y)]
        del x, y
        assert [ref() for ref in storages] == [None, None]
    finally:
        gc.enable()


def test_running_statistics_in_evaluation_are_inputs():
    x, results = image(), []
    for stepwise in (False, True):
        torch.manual_seed(1)
        module = conv_norm_act().eval()
        for norm in module[1::3]:
            norm.running_mean.normal_()
        results.append(gradients(module, x, stepwise=stepwise)[0])
    assert_same(*results)


class InPlace(nn.Module):
    """Writes to maps in ways that recipes must not miss."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.norm(self.first(x))
        y += 1  # no recipe
        z = self.norm(self.second(functional.relu(y)))
        functional.relu_(z[:, :2])  # a part of what has a recipe
        return z.square() * y.square()


def test_maps_that_are_written_to():
    x, results = image(), []
    for stepwise in (False, True):
        torch.manual_seed(1)
        results.append(gradients(InPlace(), x, stepwise=stepwise)[0])
    assert_same(*results)


def test_an_input_that_is_changed_in_place_is_an_error():
    # Plain PyTorch keeps the result of relu alone and need not mind.
    norm, x = nn.BatchNorm2d(3), image()
    with stepwise_recompute():
        y = functional.relu(norm(x))
    x += 1
    with pytest.raises(RuntimeError, match=r'\(2, 3, 8, 8\).*without ":stepwise"'):
        y.sum().backward()


def test_views_of_what_has_a_recipe():
    x, results = torch.randn(2, 3, 8, 8), []
    for stepwise in (False, True):
        torch.manual_seed(1)
        conv, norm = nn.Conv2d(3, 4, 1), nn.LayerNorm(4)
        module = nn.Sequential(conv, nn.Flatten(2), Transposed(), norm)
        results.append(gradients(module, x, stepwise=stepwise)[0])
    assert_same(*results)


class Transposed(nn.Module):
    """Channels last."""

    def forward(self, x):
        return x.transpose(1, 2)


def test_channels_last_maps():
    x = image().to(memory_format=torch.channels_last)
    results = []
    for stepwise in (False, True):
        torch.manual_seed(1)
        module = conv_norm_act().to(memory_format=torch.channels_last)
        results.append(gradients(module, x, stepwise=stepwise)[0])
    assert_same(*results)


def test_what_a_kept_map_was_made_of_is_not_kept():
    conv = nn.Conv2d(3, 4, 1)
    a, b = image(), image().requires_grad_()
    with stepwise_recompute():
        total = a + b
        storage = weakref.ref(total.untyped_storage())
        y = conv(functional.relu(total))
        del total
        assert storage() is None
    y.sum().backward()
    assert b.grad is not None


def test_backward_under_autocast_repeats_what_forward_did():
    x, results = image(), []
    for stepwise in (False, True):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4))
        y = forward(module, x, stepwise=stepwise)
        with torch.autocast('cpu'):
            y.sum().backward()
        results.append([p.grad for p in module.parameters()])
    assert_same(*results)


def test_a_graph_can_be_differentiated_twice():
    x, results = image(), []
    for stepwise in (False, True):
        torch.manual_seed(1)
        module, tracker = conv_norm_act(), AllocationTracker()
        tracker.track_module(module)
        with tracker:
            y = forward(module, x, stepwise=stepwise)
            loss = y.square().sum()
            kept = tracker.live_bytes
            loss.backward(retain_graph=True)
            grads = sum(p.grad.nbytes for p in module.parameters())
            assert tracker.live_bytes == kept + grads
            loss.backward()
        results.append([p.grad for p in module.parameters()])
    assert_same(*results)


def test_without_gradients_nothing_is_noted():
    module = conv_norm_act()
    with torch.no_grad(), stepwise_recompute() as recorder, Counts() as counts:
        module(image())
        recorder.keep([image()])
    assert counts.operators[CONVOLUTION] == 3
