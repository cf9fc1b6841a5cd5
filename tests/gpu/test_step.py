"""Training steps on a GPU: the same numbers as one backward of the sum, less memory."""

import copy

import pytest
import torch

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
)

CUTS = ['layer2.1', 'layer3.0']
# Without dropout, whose draws on a GPU depend on where a kernel starts.
STOCK = deeplabv3()
STOCK['decode_head']['dropout_ratio'] = STOCK['auxiliary_head']['dropout_ratio'] = 0.0


def model_on(device, stock=STOCK, **local):
    return build(localized(stock, **local)).to(device)


def losses_on(model, device, **kwargs):
    data = model.data_preprocessor(batch(**kwargs), training=True)
    assert data['inputs'].device.type == device.type
    return model.loss(**data)


def step(model, device, *, early=True, **kwargs):
    """Losses, gradients and buffers of one step."""
    model.local_backward = early_backward if early else None
    losses = losses_on(model, device, **kwargs)
    model.parse_losses(losses)[0].backward()
    buffers = {f'buffer {name}': b.clone() for name, b in model.named_buffers()}
    return {**losses, **gradients(model), **buffers}


def same_numbers(left, right, rtol=1e-5):
    """Equal but for the order in which a GPU adds up."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (value is None) == (right[name] is None), name
        if value is not None:
            other = right[name]
            value, other = value.detach().float(), other.detach().float()
            difference = float((value - other).abs().max())
            limit = rtol * float(other.abs().max()) + 1e-7
            assert difference <= limit, name


def test_early_backward_passes_give_the_gradients_of_the_sum(device):
    early = step(model_on(device, splits=CUTS), device)
    late = step(model_on(device, splits=CUTS), device, early=False)
    same_numbers(early, late)


def test_a_step_is_that_of_the_cpu(device):
    ours = step(model_on(device, splits=CUTS), device)
    on_cpu = step(model_on(torch.device('cpu'), splits=CUTS), torch.device('cpu'))
    same_numbers(
        {k: v if v is None else v.cpu() for k, v in ours.items()}, on_cpu, 1e-3
    )


def test_no_gradient_crosses_a_wall(device):
    model = model_on(device, splits=CUTS)
    losses = losses_on(model, device)
    sum(v for k, v in losses.items() if 'loss' in k and 'local' not in k).backward()
    reached = {n for n, g in gradients(model).items() if g is not None and g.any()}
    assert any(name.startswith('backbone.layer4') for name in reached)
    assert not [
        n for n in reached if n.startswith(('backbone.stem', 'backbone.layer1'))
    ]


def test_channels_last_gives_the_same_gradients(device):
    plain = model_on(device, splits=CUTS)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    same_numbers(step(last, device), step(plain, device), rtol=1e-3)


@pytest.mark.parametrize('recompute', [['all', 'decode_head'], ['all:stepwise']])
def test_recompute_keeps_every_bit(device, recompute):
    # cudnn's batch norm draws its statistics in the same order each time.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        plain = step(model_on(device, splits=CUTS), device)
        again = step(model_on(device, splits=CUTS, recompute=recompute), device)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_equal(again, plain)


@pytest.mark.cuda_only
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_mixed_precision_computes_in_half_the_bytes(device, dtype):
    model = model_on(device, splits=CUTS)
    seen = set()
    unit = model.backbone.layer3[0].conv1
    unit.register_forward_hook(lambda module, args, result: seen.add(result.dtype))
    with torch.autocast('cuda', dtype=dtype):
        losses = losses_on(model, device)
    assert seen == {dtype}
    assert all(torch.isfinite(value).all() for value in losses.values())


@pytest.mark.cuda_only
def test_local_modules_need_less_memory_than_end_to_end(device):
    stock = deeplabv3(NARROW, WIDTHS)

    def peak(splits):
        model = model_on(device, stock, splits=splits)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(model, device, num=2, size=(512, 512))
        return torch.cuda.max_memory_allocated() - before

    assert peak(['layer1.1', 'layer3.0']) < 0.7 * peak([])


def test_compiled_units_and_heads_give_the_same_losses(device):
    plain = model_on(device, splits=CUTS)
    compiled = copy.deepcopy(plain)
    for block in (*compiled.backbone.layer3, *compiled.local_heads):
        block.compile(backend='aot_eager')
    same_numbers(step(compiled, device), step(plain, device), rtol=1e-4)
