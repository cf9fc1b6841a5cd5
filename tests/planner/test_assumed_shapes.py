import pytest
import torch
from mmseg.models.losses import LovaszLoss, accuracy
from torch._subclasses.fake_tensor import FakeTensorMode

from infopro_seg.planner.profile.allocation import AllocationTracker
from infopro_seg.planner.profile.simulation import AssumedShapes


@pytest.fixture
def assumed():
    with FakeTensorMode(), AssumedShapes() as mode:
        yield mode


def test_a_selection_takes_everything(assumed):
    x, mask = torch.zeros(3, 4, 5), torch.zeros(4, 5, dtype=torch.bool)
    assert x[:, mask].shape == (3, 20)
    assert x[torch.zeros(3, 4, 5, dtype=torch.bool)].shape == (60,)
    assert mask.nonzero().shape == (20, 2)
    assert x.masked_select(mask).shape == (60,)
    assert assumed.operators == {'index', 'nonzero', 'masked_select'}


def test_indices_that_are_no_masks_are_left_alone(assumed):
    x = torch.zeros(3, 4)
    assert x[:, torch.tensor([0, 1])].shape == (3, 2)
    assert not assumed.operators


def test_values_are_assumed_so_that_no_class_is_skipped(assumed):
    labels = torch.zeros(10)
    assert bool(labels.sum() == 0) is False
    assert (labels > 0).any()
    assert labels.sum().item() == 0.5
    assert (labels == 3).sum().item() == 1
    assert isinstance(labels.long().sum().item(), int)


def test_the_accuracy_of_mmseg_is_counted_not_left_out():
    with FakeTensorMode():
        logits = torch.zeros(2, 5, 16, 16)
        labels = torch.zeros(2, 16, 16, dtype=torch.long)
        tracker = AllocationTracker()
        with tracker, AssumedShapes():
            result = accuracy(logits, labels, ignore_index=255)
    assert result.shape == (1,)
    # topk: a value and an index a pixel; the mask's indices: three a pixel.
    assert tracker.peak_bytes >= 2 * 16 * 16 * (4 + 8 + 3 * 8)


def test_a_loss_that_loops_over_classes_runs_all_of_them():
    with FakeTensorMode():
        logits = torch.zeros(2, 5, 8, 8, requires_grad=True)
        labels = torch.zeros(2, 8, 8, dtype=torch.long)
        with AssumedShapes() as mode:
            loss = LovaszLoss(reduction='none')(logits, labels, ignore_index=255)
            loss.sum().backward()
    assert logits.grad.shape == logits.shape
    assert {'index', 'nonzero'} <= mode.operators


def test_the_same_values_come_out_where_nothing_is_assumed():
    x = torch.arange(12.0).view(3, 4)
    with AssumedShapes():
        assert torch.equal(x[:, torch.tensor([1, 3])], x[:, [1, 3]])
