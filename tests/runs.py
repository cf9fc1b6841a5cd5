"""Small runs of mmengine's Runner on random images, for tests of training."""

import copy
import logging

import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

from .helpers import batch

LOCAL_HOOKS = ({'type': 'LocalBackwardHook'},)


class RandomScenes(Dataset):
    """Fixed random images with labels; item i is always the same."""

    metainfo = {'classes': list('abcde'), 'palette': [[i] * 3 for i in range(5)]}

    def __init__(self, length=8, size=(64, 64)):
        self.items = [batch(1, size, seed=i) for i in range(length)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        item = copy.deepcopy(self.items[i])
        return {'inputs': item['inputs'][0], 'data_samples': item['data_samples'][0]}


def run_training(
    model,
    work_dir,
    *,
    hooks=LOCAL_HOOKS,
    iterations=4,
    batch_size=2,
    lr=0.05,
    optim_wrapper=None,
    **settings,
):
    """Train a model for a few iterations and return the runner."""
    torch.manual_seed(0)
    runner = Runner(
        model=copy.deepcopy(model),
        work_dir=str(work_dir),
        train_dataloader={
            'dataset': RandomScenes(),
            'batch_size': batch_size,
            'sampler': {'type': 'InfiniteSampler', 'shuffle': True, 'seed': 0},
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
        },
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': iterations},
        optim_wrapper={
            'type': 'OptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': lr, 'momentum': 0.9},
            **(optim_wrapper or {}),
        },
        custom_hooks=list(hooks),
        default_hooks={
            'logger': {
                'type': 'LoggerHook',
                'interval': 1,
                'log_metric_by_epoch': False,
            },
            'checkpoint': None,
        },
        default_scope='mmseg',
        experiment_name=f'run_{work_dir.name}',
        randomness={'seed': 0, 'deterministic': False},
        log_level=logging.ERROR,
        **settings,
    )
    runner.train()
    return runner
