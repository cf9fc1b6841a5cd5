import functools

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from infopro_seg.models.local_backward import local_backward
from infopro_seg.models.tensor_bytes import num_bytes_of
from infopro_seg.planner.profile.allocation import AllocationTracker
from infopro_seg.planner.profile.fake_step import (
    fake_batch,
    fake_segmentor,
    fake_tensors,
    track_step,
)
from infopro_seg.planner.profile.meter import _UNSCALED
from tests.planner.networks import BATCH, CROP, tiny


def test_a_storage_counts_once_and_until_it_is_freed():
    tracker = AllocationTracker()
    with tracker:
        x = torch.zeros(100)
        view = x[:50].view(5, 10)
        assert tracker.live_bytes == 400
        del x
        assert tracker.live_bytes == 400
        y = view + 1
        assert tracker.live_bytes == 600
        del view, y
    assert tracker.live_bytes == 0
    assert tracker.peak_bytes == 600


def test_tensors_from_outside_count_once_tracked():
    layer = nn.Linear(10, 10)
    tracker = AllocationTracker()
    tracker.track_module(layer)
    assert tracker.live_bytes == 440
    with tracker:
        layer.weight.t().sum().backward()
    # The gradient came into being inside, and stays.
    assert tracker.live_bytes == 440 + 400


def test_flops_are_two_a_multiply_add():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    tracker = AllocationTracker()
    with tracker:
        loss = conv(torch.randn(2, 3, 10, 12, requires_grad=True)).sum()
    forward = 2 * (2 * 10 * 12) * (3 * 8 * 9)
    assert tracker.flops == forward
    with tracker:
        loss.backward()
    assert tracker.flops == 3 * forward


def test_bytes_of_views_are_those_of_their_storage():
    x = torch.zeros(4, 4)
    assert num_bytes_of([x, x[0], x.t(), torch.zeros(2)]) == 64 + 8


@pytest.mark.parametrize('num_modules', [1, 3])
def test_it_counts_what_torch_counts(num_modules):
    # The same training step under torch's own tracker, which needs more time.
    model = tiny(splits=None, num_modules=num_modules)
    with fake_tensors() as (fake_mode, assumed):
        network = fake_segmentor(model, fake_mode)
        network.local_backward = functools.partial(local_backward, _UNSCALED)
        inputs, samples = fake_batch(network, BATCH, CROP)
        tracker = MemTracker()
        labels = [sample.gt_sem_seg.data for sample in samples]
        tracker.track_external(network, inputs, *labels)
        with tracker, assumed:
            losses = network.loss(inputs, samples)
            total = network.parse_losses(losses)[0]
            del losses
            total.backward()
        peak = tracker.get_tracker_snapshot('peak')[torch.device('cpu')]['Total']
    plain = {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}}
    ours = track_step(
        model, batch_size=BATCH, crop_size=CROP, optim_wrapper=plain
    ).peak_bytes
    # Scalars of the optimizer wrapper and of parse_losses.
    assert ours == pytest.approx(peak, rel=1e-4)
