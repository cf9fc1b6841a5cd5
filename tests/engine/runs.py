"""Runs that are interrupted and resumed, on data with random augmentations."""

import copy
import random

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner

from infopro_seg.checkpoints.files import last_whole_checkpoint, read_checkpoint
from tests.helpers import NARROW, WIDTHS, batch, deeplabv3, localized

MODEL = localized(deeplabv3(NARROW, WIDTHS), splits=['layer1.1', 'layer3.0'])


class Killed(BaseException):
    """In place of a signal."""


class KillHook(Hook):
    """Ends the run after some iterations, before or after that one's checkpoint."""

    def __init__(self, after, priority='NORMAL'):
        self.after = after
        self.priority = priority

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            raise Killed


class Scenes(BaseDataset):
    """Random images, item i always the same before augmentation."""

    METAINFO = {'classes': list('abcde'), 'palette': [[i] * 3 for i in range(5)]}

    def __init__(self, num=8, **kwargs):
        self.num = num
        super().__init__(**kwargs)

    def load_data_list(self):
        return [
            {'img_path': f'image_{i}.png', 'seg_map_path': f'label_{i}.png'}
            for i in range(self.num)
        ]


class Augment:
    """Noise from both generators that transforms of the host draw from."""

    def __init__(self, size=(64, 64)):
        self.size = size

    def __call__(self, results):
        item = batch(1, self.size, seed=int(results['sample_idx']))
        image, sample = item['inputs'][0], item['data_samples'][0]
        shift = random.randrange(20) + int(torch.randint(20, ()))
        noise = np.random.randint(0, 20, (1, *self.size))  # noqa: NPY002  as mmcv's
        image = (image // 2 + shift + torch.from_numpy(noise)).to(torch.uint8)
        shapes = ('ori_shape', 'img_shape', 'pad_shape')
        sample.set_metainfo(dict.fromkeys(shapes, self.size))
        sample.set_metainfo({k: results[k] for k in ('img_path', 'seg_map_path')})
        return {'inputs': image, 'data_samples': sample}


class CpuAmpOptimWrapper(AmpOptimWrapper):
    """Mixed precision as on a GPU, in bfloat16 and with torch's scaler for CPUs."""

    def __init__(self, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler(
            'cpu', init_scale=8.0, growth_interval=2
        )
        self._scale_update_param = None
        self.cast_dtype = torch.bfloat16


def loader(num_workers=0, sampler='SeededSampler', batch_size=2, dataset=None):
    """A loader of augmented scenes."""
    return {
        'dataset': dataset or Scenes(pipeline=[Augment()]),
        'batch_size': batch_size,
        'num_workers': num_workers,
        'persistent_workers': num_workers > 0,
        'sampler': {'type': sampler, 'shuffle': sampler != 'DefaultSampler'},
        'collate_fn': {'type': 'pseudo_collate'},
    }


def runner_of(
    work_dir,
    *,
    name='run',
    iterations=6,
    interval=2,
    hooks=(),
    optim_wrapper=None,
    checkpoint=None,
    train_dataloader=None,
    local_hook=None,
    train_cfg=None,
    param_scheduler=None,
    cls=Runner,
    **settings,
):
    """A runner with checkpoints, momentum, a schedule and an average of weights."""
    return cls(
        model=ConfigDict(copy.deepcopy(settings.pop('model', MODEL))),
        work_dir=str(work_dir),
        train_dataloader=train_dataloader or loader(),
        train_cfg=train_cfg
        or {
            'type': 'IterBasedTrainLoop',
            'max_iters': iterations,
            'val_interval': 2,
        },
        optim_wrapper={
            'type': 'OptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
            **(optim_wrapper or {}),
        },
        param_scheduler=param_scheduler
        or [{'type': 'PolyLR', 'end': 6, 'by_epoch': False}],
        custom_hooks=[
            {'type': 'LocalBackwardHook', **(local_hook or {})},
            {'type': 'DataGuardHook'},
            {'type': 'EMAHook', 'momentum': 0.1},
            *hooks,
        ],
        default_hooks={
            'logger': {'type': 'LoggerHook', 'interval': 1},
            'checkpoint': {
                'type': 'SafeCheckpointHook',
                'by_epoch': False,
                'interval': interval,
                **(checkpoint or {}),
            },
        },
        log_processor={'by_epoch': False},
        default_scope='mmseg',
        experiment_name=f'{work_dir.name}_{name}',
        randomness={'seed': 0},
        log_level='ERROR',
        **settings,
    )


def resume(work_dir, **settings):
    """Go on from the last whole checkpoint, or start, as tools/train.py does."""
    path, _ = last_whole_checkpoint(work_dir)
    where = {'load_from': str(path), 'resume': True} if path else {}
    runner = runner_of(work_dir, name='resumed', **where, **settings)
    runner.train()
    return runner


def assert_same_checkpoint(left, right):
    """All that decides how a run goes on is bit-equal in two checkpoint files."""
    left, right = read_checkpoint(left), read_checkpoint(right)
    assert left.keys() == right.keys()
    for key in left.keys() - {'meta', 'message_hub'}:
        assert_same(left[key], right[key], key)


def losses_in_log(path):
    """Every iteration's loss of a run and of those it was resumed from."""
    log = read_checkpoint(path)['message_hub']['log_scalars']
    return {
        name: buffer.data[0].tolist() for name, buffer in log.items() if 'loss' in name
    }


def assert_same(left, right, where):
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f'{where}.{key}')
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for i, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f'{where}[{i}]')
    else:
        assert left == right, where
