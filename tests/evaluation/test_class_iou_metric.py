"""Scores of classes are those of pixels counted by hand."""

import math

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from infopro_seg.evaluation.class_iou_metric import ClassIoUMetric


def sample(predicted, labels):
    sample = SegDataSample()
    for name, rows in (('pred_sem_seg', predicted), ('gt_sem_seg', labels)):
        setattr(sample, name, PixelData(data=torch.tensor([rows])))
    return sample.to_dict()


def test_classes_and_their_mean():
    metric = ClassIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = {'classes': ['sky', 'car', 'tree', 'train']}
    metric.process({}, [sample([[0, 0, 1]], [[0, 1, 1]])])
    # The ignored pixel counts nowhere.
    metric.process({}, [sample([[2, 1, 0]], [[2, 2, 255]])])
    scores = metric.evaluate(2)
    assert scores['IoU.sky'] == 50.0
    assert scores['IoU.car'] == pytest.approx(100 / 3, abs=0.005)
    assert scores['IoU.tree'] == 50.0
    assert math.isnan(scores['IoU.train'])
    assert scores['mIoU'] == pytest.approx((50 + 100 / 3 + 50) / 3, abs=0.005)
