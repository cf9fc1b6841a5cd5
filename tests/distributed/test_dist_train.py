"""tools/dist_train.sh with two processes, as a user would type it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infopro_seg.checkpoints.files import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""
_base_ = '{ROOT}/configs/infopro_deeplabv3_r18_streets.py'
model = dict(
    data_preprocessor=dict(size=(64, 128)),
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=64, channels=8),
    auxiliary_head=dict(in_channels=32, channels=8))
total_batch_size = 4
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(size=(64, 128)))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(size=(64, 128), num_scenes=4))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def dist_train(folder, *args, num_processes=2, on_gpu=False):
    hidden = {} if on_gpu else {'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(
        [str(ROOT / 'tools' / 'dist_train.sh'), 'tiny.py', str(num_processes), *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            'PYTHON': sys.executable,
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            'PORT': str(free_port()),
            'OMP_NUM_THREADS': '1',
            **hidden,
        },
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_train_validate_and_resume(tmp_path):
    (tmp_path / 'tiny.py').write_text(CONFIG)
    # torch's launcher takes --local for one of its own options, unless told otherwise.
    said = dist_train(tmp_path, '--local', 'lean_loss=False')
    assert re.search(r'Iter\(train\) \[2/2\].*local_0.loss_recon', said)
    assert re.search(r'Iter\(val\) .*mIoU', said)
    work_dir = tmp_path / 'work_dirs' / 'tiny'
    checkpoint = read_checkpoint(work_dir / 'iter_2.pth')
    assert len(checkpoint['random_states']) == 2
    said = dist_train(tmp_path, '--resume', '--cfg-options', 'train_cfg.max_iters=3')
    assert said.count('resuming from work_dirs/tiny/iter_2.pth') == 1
    assert 'Iter(train) [3/3]' in said
    assert 'Iter(train) [2/3]' not in said
