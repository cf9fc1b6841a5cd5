"""From the official download to an independent score, as a user would type it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fakes.cityscapes import write_cityscapes

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
_base_ = '{root}/configs/infopro_deeplabv3_r18_cityscapes.py'
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(base_channels=8),
    decode_head=dict(in_channels=64, channels=8, dilations=(1, 2, 3, 4)),
    auxiliary_head=dict(in_channels=32, channels=8),
    local=dict(head=dict(preset='lean')))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='PackSegInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
total_batch_size = 2
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=2))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cityscapes')
    write_cityscapes(folder / 'data')
    (folder / 'tiny.py').write_text(CONFIG.format(root=ROOT))
    return folder


def run(folder, tool, *args, fails=False):
    """Run a tool from a folder that is not the repository; return what it said."""
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / tool), *map(str, args)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={'OMP_NUM_THREADS': '1', 'PATH': '/usr/bin:/bin', 'HOME': str(folder)},
        check=False,
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said[-3000:]
    return said


@pytest.mark.slow
def test_prepare_train_resume_test_export_evaluate(folder):
    data = ('--data-root', folder / 'data')
    # 1. Half-prepared data is refused before anything is written.
    said = run(folder, 'train.py', 'tiny.py', *data, fails=True)
    assert 'tools/prepare_cityscapes.py' in said
    assert not (folder / 'work_dirs').exists()
    # 2. Prepare, train, resume.
    run(folder, 'prepare_cityscapes.py', folder / 'data')
    said = run(folder, 'train.py', 'tiny.py', *data)
    assert 'local_0.loss_recon' in said
    work_dir = folder / 'work_dirs' / 'tiny'
    said = run(
        folder,
        'train.py',
        'tiny.py',
        *data,
        '--resume',
        '--cfg-options',
        'train_cfg.max_iters=6',
    )
    assert 'Iter(train) [6/6]' in said
    assert 'Iter(train) [4/6]' not in said
    checkpoint = work_dir / 'iter_6.pth'
    # 3. Test: single scale, all scales, all scales and mirror images.
    for tta in ([], ['--tta', 'scales'], ['--tta']):
        run(
            folder,
            'test.py',
            'tiny.py',
            checkpoint,
            *data,
            *tta,
            '--out',
            f'predictions{len(tta)}',
            '--json',
            f'scores{len(tta)}.json',
        )
    names = sorted(p.name for p in (folder / 'predictions0').iterdir())
    assert len(names) == 2
    prediction = np.array(Image.open(folder / 'predictions0' / names[0]))
    assert prediction.shape == (64, 128)
    # 4. The independent score is the one that was reported.
    run(
        folder,
        'evaluate_cityscapes.py',
        folder / 'data',
        'predictions0',
        '--json',
        'independent.json',
    )
    ours = json.loads((folder / 'scores0.json').read_text())
    independent = json.loads((folder / 'independent.json').read_text())
    # The reported score is rounded to two decimals of a percent.
    assert abs(independent['class_miou_percent'] - ours['mIoU']) < 0.006
    # 5. Export, and the exported weights score the same.
    said = run(folder, 'export_model.py', 'tiny.py', checkpoint, 'stock.pth')
    assert 'local heads left out' in said
    run(folder, 'test.py', 'tiny.py', 'stock.pth', *data, '--json', 'exported.json')
    assert json.loads((folder / 'exported.json').read_text())['mIoU'] == ours['mIoU']
