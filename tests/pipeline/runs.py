"""Small runs in one process and in pipelines, with all that a run may have."""

import copy
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from infopro_seg.pipeline import PipelineRunner
from tests.engine.runs import Augment, Scenes, loader, resume, runner_of
from tests.helpers import NARROW, WIDTHS, deeplabv3, localized
from tests.processes import connect
from tests.units.networks import segmentor

RESNET = deeplabv3(NARROW, widths=WIDTHS)


class Bfloat16Wrapper(OptimWrapper):
    """The forward pass in bfloat16, as AmpOptimWrapper without a scaler does it."""

    @contextmanager
    def optim_context(self, model):
        """Autocast on the CPU."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


class Sizes:
    """Scenes of which each has another size."""

    def __call__(self, results):
        """Sizes from 64 x 48 on."""
        index = int(results['sample_idx'])
        return Augment((64 + 16 * (index % 3), 48 + 16 * (index % 2)))(results)


#: Pads to the largest image of a batch.
ANY_SIZE = copy.deepcopy(RESNET)
ANY_SIZE['data_preprocessor'].pop('size')
ANY_SIZE['data_preprocessor']['size_divisor'] = 16

#: By name: the network, its local setting, settings of the run.
CASES = {
    'resnet': (RESNET, {'splits': ['layer1.1', 'layer3.0']}, {}),
    'monitored': (
        RESNET,
        {'num_modules': 2},
        {'hooks': [{'type': 'LocalModuleMonitorHook', 'interval': 2}]},
    ),
    'uneven': (RESNET, {'num_modules': 5, 'pipeline': [1, 4]}, {}),
    'accumulation': (
        RESNET,
        {'num_modules': 2},
        {'optim_wrapper': {'accumulative_counts': 2}, 'interval': 3},
    ),
    'bfloat16': (
        RESNET,
        {'num_modules': 2},
        {'optim_wrapper': {'type': Bfloat16Wrapper}},
    ),
    'clipped': (
        RESNET,
        {'num_modules': 3},
        {'hooks': [{'type': 'ClipModuleGradHook', 'max_norm': 0.1}]},
    ),
    'epochs': (
        RESNET,
        {'num_modules': 2},
        {
            'train_dataloader': loader(sampler='DefaultSampler', num_workers=1),
            'train_cfg': {'type': 'EpochBasedTrainLoop', 'max_epochs': 1},
        },
    ),
    # Three batches of other sizes; the last has two images instead of three.
    'sizes': (
        ANY_SIZE,
        {'num_modules': 2},
        {
            'train_dataloader': loader(
                sampler='DefaultSampler',
                batch_size=3,
                dataset=Scenes(num=8, pipeline=[Sizes()]),
            ),
            'train_cfg': {'type': 'EpochBasedTrainLoop', 'max_epochs': 1},
            'interval': 3,
        },
    ),
}
#: The same, for more stages than two.
FAMILY_CASES = {
    name: (segmentor(name), {'num_modules': 4}, {}) for name in ('mit', 'hrnet', 'unet')
}


def settings_of(case, num_stages, num_processes):
    """Arguments of `runner_of` for a case."""
    model, local, settings = (CASES | FAMILY_CASES)[case]
    local = {'pipeline': num_stages, 'random_streams': 'module', **local}
    model = localized(copy.deepcopy(model), **local)
    hooks = [*settings.get('hooks', ()), {'type': 'RandomStreamsHook'}]
    wrapper = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': True,
    }
    return {
        'iterations': 4,
        **settings,
        'model': model,
        'hooks': hooks,
        'launcher': 'pytorch' if num_processes > 1 else 'none',
        'cfg': {'model_wrapper_cfg': wrapper},
    }


def train(work_dir, case, num_stages, num_processes=1, **more):
    """Train a case, in this process and its peers."""
    is_pipeline = num_processes > 1 and num_stages > 1
    settings = settings_of(case, num_stages, num_processes) | more
    cls = PipelineRunner if is_pipeline else Runner
    runner = runner_of(work_dir, cls=cls, **settings)
    runner.train()
    return runner


def train_all(rank, folder, cases, num_stages, num_processes):
    """What each process of a pipeline runs."""
    connect(rank, folder / 'store', num_processes)
    for case in cases:
        runner = train(folder / case, case, num_stages, num_processes)
        torch.save(runner.model.state_dict(), folder / case / f'{rank}.pth')
    torch.distributed.destroy_process_group()


def train_beside(rank, folder, case, num_stages, num_processes):
    """A case as a pipeline with replicas, or as replicas alone."""
    connect(rank, folder / 'store', num_processes)
    train(folder / 'run', case, num_stages, num_processes)
    torch.distributed.destroy_process_group()


def resume_all(rank, folder, case, num_stages, num_processes):
    """Go on from the checkpoint in the folder."""
    connect(rank, folder / 'store', num_processes)
    cls = PipelineRunner if num_stages > 1 else Runner
    settings = settings_of(case, num_stages, num_processes) | {'cls': cls}
    resume(folder / 'run', **settings)
    torch.distributed.destroy_process_group()
