"""From the official download to an independent score, as README says it."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import run_tool
from tests.fakes.cityscapes import write_cityscapes, write_zips

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


NAME = 'infopro_deeplabv3_r101_cityscapes'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A checkout with both downloads where README wants them, and a small network."""
    folder = tmp_path_factory.mktemp('cityscapes')
    write_zips(write_cityscapes(folder / 'unpacked'), folder / 'data' / 'cityscapes')
    (folder / 'configs').mkdir()
    (folder / 'configs' / f'{NAME}.py').write_text(CONFIG.format(root=ROOT))
    (folder / 'tools').symlink_to(ROOT / 'tools')
    return folder


def commands():
    """The commands of README's section on Cityscapes, by tool."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    section = readme.partition('\n## Cityscapes\n')[2].partition('\n## ')[0]
    lines = re.search(r'```\n(.*?)```', section, re.DOTALL)[1].splitlines()
    return {re.search(r'tools/(\w+)', line)[1]: line for line in lines}


def run(folder, command, *args, fails=False):
    """Run a command line and return what it said."""
    python, tool, *words = shlex.split(command, comments=True)
    assert python == 'python'
    words += [word for text in args for word in shlex.split(text)]
    done = run_tool(tool.removeprefix('tools/'), *words, cwd=folder)
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said[-3000:]
    return said


@pytest.mark.exhaustive
def test_prepare_train_resume_test_export_evaluate(folder):
    typed = commands()
    assert list(typed) == [
        *('prepare_cityscapes', 'train', 'dist_train', 'test'),
        *('evaluate_cityscapes', 'export_model'),
    ]
    # 1. Data that is not prepared is refused before anything is written.
    said = run(folder, typed['train'], fails=True)
    assert 'python tools/prepare_cityscapes.py data/cityscapes' in said
    assert not (folder / 'work_dirs').exists()
    # 2. Prepare, train, resume.
    said = run(folder, typed['prepare_cityscapes'])
    (following,) = re.findall(r'^next: (.*)$', said, re.MULTILINE)
    assert following == f'{typed["train"]} --data-root data/cityscapes'
    said = run(folder, following)
    assert 'Iter(train) [1/4]' in said
    assert 'local_0.loss_recon' in said
    said = run(folder, typed['train'], '--resume --cfg-options train_cfg.max_iters=6')
    assert 'Iter(train) [6/6]' in said
    assert 'Iter(train) [4/6]' not in said
    # 3. Test: single scale, all scales, all scales and mirror images.
    test = typed['test'].replace('CHECKPOINT', f'work_dirs/{NAME}/iter_6.pth')
    run(folder, test)
    assert len(list((folder / 'predictions').iterdir())) == 2
    single = test.replace('--tta --out predictions', '--out single')
    run(folder, single, '--json single.json')
    run(folder, test.replace('--tta --out predictions', '--tta scales'))
    names = sorted(p.name for p in (folder / 'single').iterdir())
    assert len(names) == 2
    prediction = np.array(Image.open(folder / 'single' / names[0]))
    assert prediction.shape == (64, 128)
    # 4. The independent score is the one that was reported.
    run(folder, typed['evaluate_cityscapes'])
    evaluate = typed['evaluate_cityscapes'].replace(' predictions ', ' single ')
    run(folder, evaluate, '--json independent.json')
    ours = json.loads((folder / 'single.json').read_text())
    independent = json.loads((folder / 'independent.json').read_text())
    # The reported score is rounded to two decimals of a percent.
    assert abs(independent['class_miou_percent'] - ours['mIoU']) < 0.006
    # 5. Export, and the exported weights score the same.
    said = run(folder, typed['export_model'])
    assert 'local heads left out' in said
    exported = typed['test'].replace('CHECKPOINT --tta --out predictions', '')
    run(folder, exported, 'deeplabv3.pth --json exported.json')
    assert json.loads((folder / 'exported.json').read_text())['mIoU'] == ours['mIoU']
