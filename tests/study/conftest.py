"""A study on drawn streets at toy size, trained in this process."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mmseg.visualization import SegLocalVisualizer

from infopro_seg.cli import train
from infopro_seg.study import runner

_CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
_TOY = f"""
_base_ = {str(_CONFIGS / 'studies/streets_r18.py')!r}
model = dict(
    data_preprocessor=dict(size=(32, 64)),
    backbone=dict(base_channels=8),
    decode_head=dict(in_channels=64, channels=8, dilations=(1, 2)),
    auxiliary_head=dict(in_channels=32, channels=8))
train_dataloader = dict(dataset=dict(num_scenes=10, size=(32, 64)))
val_dataloader = dict(dataset=dict(num_scenes=2, size=(32, 64)))
total_batch_size = 2
"""


@pytest.fixture
def content(tmp_path):
    """What stands in the study file; its config lies beside it."""
    (tmp_path / 'toy.py').write_text(_TOY)
    return {
        'name': 'toy',
        'config': 'toy.py',
        'iterations': 4,
        'validation_interval': 2,
        'checkpoint_interval': 4,
        'seeds': [0, 3],
        'rows': [
            {'name': 'end-to-end', 'local': {'splits': []}},
            {'name': 'InfoPro K=2', 'local': {'num_modules': 2}},
        ],
    }


@pytest.fixture
def write(tmp_path):
    """Writes a study file."""

    def write(content):
        path = tmp_path / 'toy.yaml'
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def in_process(monkeypatch):
    """Train without starting processes; the commands, as they are run."""
    commands = []
    train_here(monkeypatch, commands)
    return commands


def train_here(monkeypatch, commands):
    """Let runs be trained in this process; their commands are added to a list."""

    def start(command, log, **_):
        commands.append(command)
        # The host keeps one for a process, which writes to the first work dir.
        SegLocalVisualizer._instance_dict.clear()
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', command)
            try:
                train.main()
            except Exception as error:
                log.write_text(f'{error}\n')
                return SimpleNamespace(poll=lambda: 1, returncode=1)
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    monkeypatch.setattr(runner, 'start', start)
    monkeypatch.setattr(runner, 'pause', lambda: None)
