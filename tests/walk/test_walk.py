"""Configs as they are shipped, from training to a stock test of what is exported."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import infopro_seg  # noqa: F401  registers everything
from infopro_seg.settings.config import read_config, type_name

from .data import COUNT, WRITERS
from .server import ANSWER, TEST_SEED
from .shrink import CROP, small_options

ROOT = Path(__file__).resolve().parents[2]
MMSEG = 'mmseg::'
# How a stock config becomes a local one.
ARGUMENT, CHILD, LOCALIZE, EXACT = 'argument', 'child', 'localize', 'exact'
CHILD_CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(type={kind!r}, local=dict({cut}))
custom_hooks = [dict(type='LocalTrainingHook')]
"""
# One of each family is walked by default.
DEFAULT = [
    ('infopro_deeplabv3_r101_cityscapes.py', None),
    ('infopro_deeplabv3_mobilenet-v2_camvid.py', None),
    ('infopro_deeplabv3_r18_streets.py', None),
    ('infopro_ocrnet_hr48_cityscapes.py', None),
    ('infopro_upernet_swin-t_ade20k.py', None),
    ('infopro_upernet_vit-b_ade20k.py', None),
    ('infopro-contrast_deeplabv3_r101_cityscapes.py', None),
    ('dgl_deeplabv3_r101_cityscapes.py', None),
    ('end-to-end_deeplabv3_mobilenet-v2_camvid.py', None),
    ('mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py', ARGUMENT),
    ('mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py', LOCALIZE),
    ('mmseg::unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py', CHILD),
    ('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py', EXACT),
]
# Left out for what is not installed: ConvNeXt and PoolFormer (mmpretrain), Mask2Former
# and MaskFormer (mmdet), PointRend, CCNet and PSANet (compiled operators of mmcv).
# LR-ASPP pools windows that are larger than a small crop; docs/models.md lists the
# backbones that have no units.
REST = [
    ('infopro_deeplabv3_r101_cityscapes_640x1280.py', None),
    ('infopro_deeplabv3_r101_cityscapes_769x769.py', None),
    ('infopro_deeplabv3_r101_cityscapes_b12.py', None),
    ('infopro_deeplabv3_r101_cityscapes_k3.py', None),
    ('infopro_deeplabv3_r101_cityscapes_k4.py', None),
    ('infopro_deeplabv3_r18_camvid.py', None),
    ('infopro_deeplabv3_r18_cityscapes.py', None),
    ('infopro_deeplabv3_r101_cityscapes_every4.py', None),
    ('infopro_deeplabv3_r101_cityscapes_exact.py', None),
    ('infopro_deeplabv3_r50_cityscapes.py', None),
    ('infopro_deeplabv3plus_r101_cityscapes.py', None),
    ('infopro_fcn_hr48_cityscapes.py', None),
    ('infopro_pspnet_r101_cityscapes.py', None),
    ('infopro_pspnet_r50_from-mmseg.py', None),
    ('infopro_segformer_mit-b2_cityscapes.py', None),
    ('end-to-end_deeplabv3_r101_cityscapes.py', None),
    ('mmseg::ann/ann_r50-d8_4xb2-40k_cityscapes-769x769.py', LOCALIZE),
    ('mmseg::apcnet/apcnet_r50-d8_4xb2-40k_cityscapes-769x769.py', CHILD),
    ('mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py', CHILD),
    ('mmseg::danet/danet_r50-d8_4xb2-40k_cityscapes-512x1024.py', CHILD),
    ('mmseg::dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512.py', LOCALIZE),
    ('mmseg::dnlnet/dnl_r50-d8_4xb2-40k_cityscapes-512x1024.py', CHILD),
    ('mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py', LOCALIZE),
    ('mmseg::emanet/emanet_r50-d8_4xb2-80k_cityscapes-512x1024.py', ARGUMENT),
    ('mmseg::encnet/encnet_r50-d8_4xb2-40k_cityscapes-512x1024.py', ARGUMENT),
    ('mmseg::erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024.py', ARGUMENT),
    ('mmseg::fastfcn/fastfcn_r50-d32_jpu_enc_4xb2-80k_cityscapes-512x1024.py', CHILD),
    ('mmseg::gcnet/gcnet_r50-d8_4xb2-40k_cityscapes-512x1024.py', LOCALIZE),
    ('mmseg::isanet/isanet_r50-d8_4xb2-40k_cityscapes-512x1024.py', ARGUMENT),
    ('mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py', ARGUMENT),
    ('mmseg::ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py', LOCALIZE),
    (
        'mmseg::resnest/resnest_s101-d8_deeplabv3_4xb2-80k_cityscapes-512x1024.py',
        ARGUMENT,
    ),
    ('mmseg::segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py', LOCALIZE),
    ('mmseg::segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py', ARGUMENT),
    ('mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py', LOCALIZE),
    ('mmseg::sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py', CHILD),
    ('mmseg::setr/setr_vit-l_mla_8xb1-80k_cityscapes-768x768.py', CHILD),
    ('mmseg::setr/setr_vit-l_pup_8xb1-80k_cityscapes-768x768.py', ARGUMENT),
    ('mmseg::stdc/stdc1_4xb12-80k_cityscapes-512x1024.py', CHILD),
    ('mmseg::twins/twins_pcpvt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512.py', CHILD),
    ('mmseg::twins/twins_svt-s_uperhead_8xb2-160k_ade20k-512x512.py', LOCALIZE),
]


def _params():
    for name, way in (*DEFAULT, *REST):
        yield pytest.param(name, way, id=Path(name).stem)


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
        self.splits = cfg.model.get('local', {}).get('splits')
        self.config, self.local = shipped, []
        if way == ARGUMENT:
            self.local = ['--local', 'num_modules=3']
        elif way == CHILD:
            self._inherit(name, cfg, 'num_modules=3')
        elif way == EXACT:
            plan = folder / 'plan.json'
            self.tool(
                'plan', shipped, '--exact', '--num-modules', 3, '--out', plan,
                '--batch-size', 2, '--crop-size', *CROP,
            )  # fmt: skip
            self._inherit(name, cfg, f'plan={str(plan)!r}')
        elif way == LOCALIZE:
            self.config = folder / 'localized.py'
            self.tool('localize', shipped, self.config, '--local', 'num_modules=3')
        self.data = []
        if self.dataset in WRITERS:
            WRITERS[self.dataset](folder / 'data')
            self.data = ['--data-root', folder / 'data']

    def _inherit(self, name, cfg, cut):
        self.config = self.folder / 'child.py'
        kind = f'InfoPro{type_name(cfg.model)}'
        self.config.write_text(CHILD_CONFIG.format(base=name, kind=kind, cut=cut))

    def tool(self, command, *args):
        """Run a tool; returns what it printed."""
        self.steps += 1
        log = self.folder / f'{self.steps}_{command}.log'
        self.tools(
            command=command,
            args=list(map(str, args)),
            folder=str(self.folder),
            log=str(log),
        )
        return log.read_text()

    def train(self, work_dir, *args):
        log = self.tool(
            'train', self.config, '--work-dir', work_dir, *args, *self.data,
            *self.local, '--cfg-options', *self.options,
        )  # fmt: skip
        # Even modules by memory, not by number of units.
        assert 'cannot be measured' not in log
        return log

    def test(self, checkpoint, *args):
        self.tool(
            'test', self.config, checkpoint, *args, *self.data, *self.local,
            '--work-dir', self.folder / 'tested', '--cfg-options', *self.options,
            f'randomness.seed={TEST_SEED}',
        )  # fmt: skip


def _weights(path):
    return torch.load(path, map_location='cpu', weights_only=False)['state_dict']


def _assert_same_weights(left, right):
    left, right = _weights(left), _weights(right)
    assert list(left) == list(right)
    different = [key for key in left if not torch.equal(left[key], right[key])]
    assert not different


def _check_work_dir(work_dir, splits):
    (config,) = work_dir.glob('*.py')
    local = Config.fromfile(config).model.local
    settled = local.splits
    # Without splits of its own a config is cut in three.
    assert len(settled) == 2 if splits is None else settled == splits
    logs = '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'mIoU' in logs
    with_losses = set(re.findall(r'local_(\d+)\.loss_', logs))
    # Where every step is end-to-end there are no local heads.
    num_heads = 0 if local.get('end_to_end_every') == 1 else len(settled)
    assert with_losses == {str(i) for i in range(num_heads)}


def _read_scores(path):
    metrics = json.loads(path.read_text())
    assert math.isfinite(metrics['mIoU']) and math.isfinite(metrics['aAcc'])
    return metrics


def _predictions(folder):
    """The pictures of a folder, by name."""
    found = {path.name: path.read_bytes() for path in folder.rglob('*.png')}
    assert len(found) == COUNT
    return found


def test_every_ready_made_config_is_walked():
    walked = {name for name, _ in DEFAULT + REST}
    shipped = {path.name for path in (ROOT / 'configs').glob('*.py')}
    assert shipped - walked == {
        # It needs mmpretrain, and a GPU for mixed precision.
        'infopro_upernet_convnext-t_ade20k.py',
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize(('name', 'way'), _params())
def test_walk(name, way, tmp_path, servers):
    tools, stock = servers
    walk = Walk(tmp_path, name, way, tools)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    walk.train(whole)
    _check_work_dir(whole, walk.splits)
    # As a run leaves it that was stopped after its first iteration.
    parts.mkdir()
    shutil.copy(whole / 'iter_1.pth', parts)
    assert f'resuming from {parts / "iter_1.pth"}' in walk.train(parts, '--resume')
    _assert_same_weights(whole / 'iter_2.pth', parts / 'iter_2.pth')
    with pytest.raises(AssertionError):
        _assert_same_weights(whole / 'iter_1.pth', whole / 'iter_2.pth')

    scores, pictures = tmp_path / 'scores.json', tmp_path / 'pictures'
    walk.test(whole / 'iter_2.pth', '--out', pictures, '--json', scores)
    metrics = _read_scores(scores)

    exported, again = tmp_path / 'exported.pth', tmp_path / 'again.pth'
    walk.tool('export_model', whole, exported)
    (config,) = whole.glob('*.py')
    walk.tool('export_model', config, whole / 'iter_2.pth', again)
    _assert_same_weights(exported, again)
    stock(
        config=str(exported.with_suffix('.py')),
        checkpoint=str(exported),
        out=str(tmp_path / 'stock.json'),
        pictures=str(tmp_path / 'stock_pictures'),
        log=str(tmp_path / 'stock.log'),
        allowed=walk.dataset not in ('CityscapesDataset', 'ADE20KDataset'),
    )
    stock_metrics = _read_scores(tmp_path / 'stock.json')
    assert stock_metrics['mIoU'] == metrics['mIoU']
    assert stock_metrics['aAcc'] == metrics['aAcc']
    # Scores of untrained networks are low, and may be equal by chance.
    assert _predictions(pictures) == _predictions(tmp_path / 'stock_pictures')
