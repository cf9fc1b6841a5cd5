"""Every config builds the model it promises."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

import tests.helpers  # noqa: F401  registers everything

CONFIGS = sorted((Path(__file__).parents[1] / 'configs').glob('*.py'))


def build_model(cfg):
    """The model without weights: on the meta device, nothing is downloaded."""
    model = cfg.model
    model.pop('pretrained', None)
    model.backbone.init_cfg = None
    with torch.device('meta'):
        return MODELS.build(model)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_builds_and_trains_as_its_name_says(path):
    cfg = Config.fromfile(path)
    model = build_model(cfg)
    num_modules = len(model.local_modules)
    if path.stem.startswith('end-to-end'):
        assert num_modules == 1
    else:
        assert num_modules >= 2
        hooks = [hook.type for hook in cfg.custom_hooks]
        assert hooks[:2] == ['LocalBackwardHook', 'CheckLabelsHook']
    assert cfg.find_unused_parameters
    for split, module in zip(
        cfg.model.local.get('splits') or [], model.local_modules, strict=False
    ):
        assert module.units[-1].name == split
    crops = [step for step in cfg.train_pipeline if step.type == 'RandomCrop']
    for crop in crops:
        assert tuple(crop.crop_size) == tuple(cfg.model.data_preprocessor.size)
    in_use = [
        step
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'RandomCrop'
    ]
    assert [step.crop_size for step in in_use] == [step.crop_size for step in crops]


def test_the_main_config_is_the_papers_setting():
    cfg = Config.fromfile(CONFIGS[0].parent / 'infopro_deeplabv3_r101_cityscapes.py')
    model = build_model(cfg)
    assert [m.units[-1].name for m in model.local_modules] == ['layer3.12', 'layer4.2']
    head = model.local_heads[0]
    assert (head.reconstruction_weight, head.segmentation_weight) == (1.5, 1.0)
    assert type(head.segmentation).__name__ == 'FCNHead'
    assert head.segmentation.channels == 512
    assert cfg.total_batch_size == 8
    assert cfg.train_cfg.max_iters == 40000
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        0.01,
        0.9,
        0.0005,
    )
