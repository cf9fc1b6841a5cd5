"""FLOPs of convolutions: backward is twice forward, whatever the groups."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from infopro_seg.planner.profile.allocation import AllocationTracker


def counted(layer, x):
    """FLOPs of forward and of backward."""
    tracker = AllocationTracker()
    with tracker:
        y = layer(x)
        forward = tracker.flops
        y.sum().backward()
    return forward, tracker.flops - forward


@pytest.mark.parametrize('groups', [1, 2, 8])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('conv', [nn.Conv2d, nn.ConvTranspose2d])
def test_backward_is_twice_forward(conv, stride, groups):
    layer = conv(8, 16, 3, stride=stride, padding=1, groups=groups)
    x = torch.randn(2, 8, 12, 10)
    forward, backward = counted(layer, x.clone().requires_grad_())
    assert backward == 2 * forward
    # Behind a wall there is no gradient of the input.
    assert counted(layer, x) == (forward, forward)
    positions = x.numel() if conv is nn.ConvTranspose2d else layer(x).numel()
    others = 16 if conv is nn.ConvTranspose2d else 8
    assert forward == 2 * positions * 9 * others // groups


def test_without_groups_it_is_torchs_own_count():
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2))
    x = torch.randn(2, 3, 9, 11, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    assert sum(counted(layer, x)) == counter.get_total_flops()
