"""Configs as they are shipped, from training to a stock test of what is exported."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import infopro_seg  # noqa: F401  registers everything
from infopro_seg.settings.config import read_config, type_name

from .data import COUNT, WRITERS
from .server import ANSWER
from .shrink import small_options

ROOT = Path(__file__).resolve().parents[2]
MMSEG = 'mmseg::'
# How a stock config becomes a local one.
ARGUMENT, CHILD, LOCALIZE = 'argument', 'child', 'localize'
CHILD_CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(type={kind!r}, local=dict(num_modules=3))
custom_hooks = [dict(type='LocalTrainingHook')]
"""
# One of each family is walked by default.
DEFAULT = [
    ('infopro_deeplabv3_r101_cityscapes.py', None),
    ('infopro_deeplabv3_mobilenet-v2_camvid.py', None),
    ('mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py', ARGUMENT),
    ('mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py', LOCALIZE),
]
REST = []


def _params():
    for name, way in DEFAULT:
        yield pytest.param(name, way, id=Path(name).stem, marks=pytest.mark.slow)
    for name, way in REST:
        yield pytest.param(name, way, id=Path(name).stem, marks=pytest.mark.exhaustive)


class Server:
    """A process of `tests.walk.server`."""

    def __init__(self, kind):
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'tests.walk.server', kind],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, **job):
        """Do a job; fails with the last lines of its log."""
        print(json.dumps(job), file=self._process.stdin, flush=True)
        # Imports may have printed before.
        answers = (line.split() for line in self._process.stdout)
        code = next(words[1] for words in answers if words[:1] == [ANSWER])
        assert code == '0', f'{job}:\n{_last_lines(job["log"])}'

    def close(self):
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope='module')
def servers():
    """Runs the tools, and tests exported pairs where this package never was."""
    pair = Server('ours'), Server('stock')
    yield pair
    for server in pair:
        server.close()


def _last_lines(log):
    return '\n'.join(Path(log).read_text().splitlines()[-25:])


class Walk:
    """Tools that are run on one config, each in a process of its own."""

    def __init__(self, folder, name, way, tools):
        self.folder, self.steps, self.tools = folder, 0, tools
        shipped = name if MMSEG in name else str(ROOT / 'configs' / name)
        cfg = read_config(shipped)
        self.options = small_options(cfg)
        self.dataset = type_name(cfg.train_dataloader.dataset)
        self.config, self.local = shipped, []
        if way == ARGUMENT:
            self.local = ['--local', 'num_modules=3']
        elif way == CHILD:
            self.config = folder / 'child.py'
            kind = f'InfoPro{type_name(cfg.model)}'
            self.config.write_text(CHILD_CONFIG.format(base=name, kind=kind))
        elif way == LOCALIZE:
            self.config = folder / 'localized.py'
            self.tool('localize', shipped, self.config, '--local', 'num_modules=3')
        self.data = []
        if self.dataset in WRITERS:
            WRITERS[self.dataset](folder / 'data')
            self.data = ['--data-root', folder / 'data']

    def tool(self, command, *args):
        self.steps += 1
        self.tools(
            command=command,
            args=list(map(str, args)),
            folder=str(self.folder),
            log=str(self.folder / f'{self.steps}_{command}.log'),
        )

    def train(self, work_dir, *args, options=()):
        settings = ['--cfg-options', *self.options, *options]
        self.tool(
            'train', self.config, '--work-dir', work_dir, *args, *self.data,
            *self.local, *settings,
        )  # fmt: skip

    def test(self, checkpoint, *args):
        self.tool(
            'test', self.config, checkpoint, *args, *self.data, *self.local,
            '--work-dir', self.folder / 'tested', '--cfg-options', *self.options,
        )  # fmt: skip


def _weights(path):
    return torch.load(path, map_location='cpu', weights_only=False)['state_dict']


def _assert_same_weights(left, right):
    left, right = _weights(left), _weights(right)
    assert list(left) == list(right)
    different = [key for key in left if not torch.equal(left[key], right[key])]
    assert not different


def _check_work_dir(work_dir):
    (config,) = work_dir.glob('*.py')
    assert Config.fromfile(config).model.local.splits
    logs = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'mIoU' in logs


def _check_scores(folder, scores):
    metrics = json.loads(scores.read_text())
    assert math.isfinite(metrics['mIoU']) and math.isfinite(metrics['aAcc'])
    assert len(list(folder.rglob('*.png'))) == COUNT
    return metrics


@pytest.mark.parametrize(('name', 'way'), _params())
def test_walk(name, way, tmp_path, servers):
    tools, stock = servers
    walk = Walk(tmp_path, name, way, tools)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    walk.train(whole)
    _check_work_dir(whole)
    walk.train(parts, options=['train_cfg.max_iters=1'])
    walk.train(parts, '--resume')
    _assert_same_weights(whole / 'iter_2.pth', parts / 'iter_2.pth')
    with pytest.raises(AssertionError):
        _assert_same_weights(whole / 'iter_1.pth', whole / 'iter_2.pth')

    scores, pictures = tmp_path / 'scores.json', tmp_path / 'pictures'
    walk.test(whole / 'iter_2.pth', '--out', pictures, '--json', scores)
    metrics = _check_scores(pictures, scores)

    exported, again = tmp_path / 'exported.pth', tmp_path / 'again.pth'
    walk.tool('export_model', whole, exported)
    (config,) = whole.glob('*.py')
    walk.tool('export_model', config, whole / 'iter_2.pth', again)
    _assert_same_weights(exported, again)
    stock(
        config=str(exported.with_suffix('.py')),
        checkpoint=str(exported),
        out=str(tmp_path / 'stock.json'),
        log=str(tmp_path / 'stock.log'),
        allowed=walk.dataset not in ('CityscapesDataset', 'ADE20KDataset'),
    )
    stock_metrics = json.loads((tmp_path / 'stock.json').read_text())
    assert stock_metrics['mIoU'] == metrics['mIoU']
    assert stock_metrics['aAcc'] == metrics['aAcc']
