"""Accuracy on CamVid: end-to-end training and local modules, several seeds.

Each is an ordinary run of ``tools/train.py`` in a folder of its own. A run that was
stopped resumes from its last checkpoint.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..bundled import CONFIGS, TOOLS
from ..report.run_log import read_run
from .job import Job, Records

#: K of the runs; 1 is end-to-end training.
NUM_MODULES = (1, 2, 4, 8)
#: The config of each network, and what is changed in it.
NETWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    'MobileNetV2': ('infopro_deeplabv3_mobilenet-v2_camvid.py', ()),
    'R50': (
        'infopro_deeplabv3_r18_camvid.py',
        (
            'model.backbone.depth=50',
            'model.decode_head.in_channels=2048',
            'model.auxiliary_head.in_channels=1024',
        ),
    ),
}


def camvid_part(job: Job, records: Records) -> None:
    """Train every run without a score; all networks of a seed before the next seed."""
    for seed in job.seeds:
        for network in NETWORKS:
            for num_modules in NUM_MODULES:
                name = f'{network} K={num_modules} seed {seed}'
                if name in records:
                    continue
                folder = records.path.parent / 'camvid' / name.replace(' ', '_')
                _train(command(job, network, num_modules, seed, folder), job.device)
                what = {'network': network, 'num_modules': num_modules, 'seed': seed}
                records.add(name, {**what, **_scores(folder, job.iterations)})
    records.finish()


def command(
    job: Job, network: str, num_modules: int, seed: int, folder: Path
) -> list[str]:
    """The command line of a run, without the interpreter."""
    config, changes = NETWORKS[network]
    height, width = job.camvid_crop
    weights = job.weights if network == 'MobileNetV2' else None
    interval = min(200, job.iterations)
    options = (
        *changes,
        f'model.pretrained={weights}',
        f'model.data_preprocessor.size=({height},{width})',
        f'train_dataloader.dataset.pipeline.3.crop_size=({height},{width})',
        'model.local.splits=None',
        f'model.local.num_modules={num_modules}',
        f'randomness.seed={seed}',
        f'train_cfg.max_iters={job.iterations}',
        f'train_cfg.val_interval={max(1, job.iterations // 4)}',
        f'param_scheduler.0.end={job.iterations}',
        f'default_hooks.checkpoint.interval={interval}',
    )
    return [
        str(TOOLS / 'train.py'),
        str(CONFIGS / config),
        *('--data-root', str(job.camvid), '--work-dir', str(folder), '--resume'),
        *('--cfg-options', *options),
    ]


def _train(arguments: list[str], device: str) -> None:
    environment = dict(os.environ)
    if device == 'cpu':
        environment['CUDA_VISIBLE_DEVICES'] = ''
    # Its output goes to the log of this part.
    code = subprocess.run(
        [sys.executable, *arguments], env=environment, check=False
    ).returncode
    if code:
        raise RuntimeError(f'training ended with exit code {code}; see above.')


def _scores(folder: Path, iterations: int) -> dict[str, Any]:
    series = read_run(folder).series
    steps, values = series['mIoU']
    if steps[-1] != iterations:
        raise RuntimeError(
            f'{folder} has its last score at iteration {steps[-1]}, not {iterations}.'
        )
    scores: dict[str, Any] = {'miou': values[-1]}
    if 'memory' in series:  # MiB, on a GPU only
        scores['memory_bytes'] = int(max(series['memory'][1]) * 2**20)
    return scores
