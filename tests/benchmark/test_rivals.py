"""What torch offers instead trains the same network, and is measured as it runs."""

import copy
import functools

import pytest
import torch

from infopro_seg.benchmark.facts import require_device
from infopro_seg.benchmark.largest import largest_sizes
from infopro_seg.benchmark.method import END_TO_END, RIVALS, runs_on
from infopro_seg.benchmark.methods import methods
from infopro_seg.benchmark.rivals import checkpoint_selectively, offload
from infopro_seg.benchmark.steps import Contender
from infopro_seg.benchmark.summary import summarised
from infopro_seg.planner.make import Setting
from infopro_seg.report.benchmark_text import methods_report
from tests.backbones import BACKBONES
from tests.helpers import assert_equal, build, deeplabv3, gradients, losses_of
from tests.planner.networks import tiny

CPU = torch.device('cpu')
BUDGETS = (0.2, 1.0)
CHANGES = {'selective': checkpoint_selectively, 'save_on_cpu': offload}


@functools.cache
def compared():
    setting = Setting(tiny(auxiliary=1), 2, (64, 96))
    found = methods(setting, (END_TO_END, *RIVALS), [], budgets=BUDGETS)
    return {method.name: method for method in found}


def trained(method):
    """Gradients and buffers after one backward pass."""
    network = Contender(method, 'cpu', 0)._model
    total, _ = network.parse_losses(losses_of(network))
    total.backward()
    return gradients(network), dict(network.named_buffers())


@pytest.mark.exhaustive
def test_each_is_a_method_of_the_stock_model():
    assert list(compared()) == [
        'end_to_end',
        'selective',
        'compile 0.2',
        'compile 1',
        'save_on_cpu',
    ]
    for method in compared().values():
        assert method.model['type'] == 'mmseg.EncoderDecoder'
        assert method.num_modules == 1


@pytest.mark.parametrize('name', ['selective', 'save_on_cpu'])
def test_gradients_and_statistics_are_those_of_end_to_end_training(name):
    for own, stock in zip(
        trained(compared()[name]), trained(compared()['end_to_end']), strict=True
    ):
        assert_equal(own, stock)


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['mit', 'swin', 'hrnet', 'vit'])
@pytest.mark.parametrize('change', CHANGES)
def test_other_families_keep_their_gradients(backbone, change):
    stock = build(BACKBONES[backbone])
    other = copy.deepcopy(stock)
    image = torch.randn(2, 3, 64, 64)
    gradients_of = []
    for network in (stock, other):
        holder = torch.nn.Module()
        holder.backbone = network
        holder.loss = lambda x, network=network: _sum(network(x))
        if network is other:
            CHANGES[change](holder, CPU)
        torch.manual_seed(0)
        holder.loss(image).backward()
        gradients_of.append(gradients(network))
    assert_equal(*gradients_of)


def _sum(outputs):
    if isinstance(outputs, torch.Tensor):
        return outputs.square().sum()
    return sum(_sum(output) for output in outputs)


@pytest.mark.exhaustive
@pytest.mark.parametrize('budget', BUDGETS)
def test_compiled_gradients_are_those_of_end_to_end_training(budget):
    torch.compiler.reset()
    own, _ = trained(compared()[f'compile {budget:g}'])
    stock, _ = trained(compared()['end_to_end'])
    # The resize inside the ASPP head is compiled to other operators, which round
    # differently: 3e-7 at most here.
    torch.testing.assert_close(own, stock, rtol=1e-4, atol=2e-6)


@pytest.mark.exhaustive
def test_compiled_gradients_keep_every_bit_without_a_resize():
    torch.compiler.reset()
    model = deeplabv3(BACKBONES['resnet18-v1c-3-stages'], widths=(16, 32), auxiliary=1)
    model['backbone'] = {**model['backbone'], 'out_indices': (1, 2)}
    head = {**model['auxiliary_head'], 'dropout_ratio': 0.1}
    model['decode_head'] = {**head, 'in_channels': 32, 'in_index': 1}
    model['auxiliary_head'] = {**head, 'in_channels': 16, 'in_index': 0}
    setting = Setting({**model, 'type': 'EncoderDecoder'}, 2, (64, 96))
    stock, own = methods(setting, (END_TO_END, 'compile'), [], budgets=[0.2])
    for left, right in zip(trained(own), trained(stock), strict=True):
        assert_equal(left, right)


@pytest.mark.exhaustive
def test_what_is_kept_is_what_is_counted():
    torch.compiler.reset()
    peaks = {}
    for name, method in compared().items():
        contender = Contender(method, 'cpu', 0)
        contender.timed_step()
        contender.timed_step()
        peaks[name] = contender.peak_bytes()
    # A mode that compiled code does not run under would count the stock step thrice.
    assert peaks['compile 0.2'] < 0.9 * peaks['compile 1']
    assert peaks['compile 1'] == pytest.approx(peaks['end_to_end'], rel=0.01)
    assert peaks['selective'] < peaks['end_to_end']
    # 5 %: as in test_steps.py.
    predicted = compared()['selective'].predicted_peak_bytes
    assert peaks['selective'] == pytest.approx(predicted, rel=0.05)


def test_only_products_are_kept():
    network = build(compared()['selective'].model)
    checkpoint_selectively(network, CPU)
    convolutions, norms = [], []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.convolution.default:
                convolutions.append(func)
            if func is torch.ops.aten.native_batch_norm.default:
                norms.append(func)
            return func(*args, **(kwargs or {}))

    outputs = network.backbone(torch.randn(2, 3, 64, 64))
    with Spy():
        _sum(outputs).backward()
    assert len(norms) == sum(
        isinstance(m, torch.nn.BatchNorm2d) for m in network.backbone.modules()
    )
    assert not convolutions


def test_what_is_not_predicted_is_a_dash():
    found = list(compared().values())
    entries = summarised(found, [None] * len(found))
    rows = methods_report(entries).splitlines()
    (row,) = (row for row in rows if row.startswith('compile 1 '))
    assert row.split()[2:] == ['-', '-', '-']
    assert largest_sizes(found[1:], [2**30], 0) == []


def test_what_needs_a_gpu_is_refused_on_a_cpu():
    assert [kind for kind in RIVALS if not runs_on(kind, 'cpu')] == ['save_on_cpu']
    with pytest.raises(RuntimeError, match='--methods save_on_cpu needs --device cuda'):
        require_device('cpu', None, RIVALS)
    require_device('cpu', None, ['selective', 'compile'])
