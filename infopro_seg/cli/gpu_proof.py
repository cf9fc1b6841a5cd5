"""Compare what is predicted with what a GPU does: memory, time, what fits."""

import argparse
import datetime
from pathlib import Path
from typing import Any

import torch

from ..benchmark.facts import device_name, require_device, versions
from ..bundled import CONFIGS
from ..proof.job import Job
from ..proof.report import reserve_of, write_page
from ..proof.runner import run_parts, with_tuples
from ..settings.sizes import gib
from .run import make_parser, this_command

_CONFIG = CONFIGS / 'infopro_deeplabv3_r101_cityscapes_k4.py'
EXAMPLE = """Parts run in order of importance until the time is up; the next call with
the same --out continues after them. Images are random: only the accuracy on CamVid
needs a data set.

example:
  python tools/gpu_proof.py --out gpu_proof --minutes 9
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    job = Job(config=str(_CONFIG))
    parser.add_argument(
        '--out',
        required=True,
        type=Path,
        metavar='DIR',
        help='folder of the page and the numbers',
    )
    parser.add_argument('--minutes', type=float, default=9, help='time limit')
    parser.add_argument('--config', default=job.config, help='file (.py), mmseg::NAME')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default=job.device)
    parser.add_argument(
        '--batch-size',
        type=int,
        default=job.batch_size,
        metavar='B',
        help='images per step',
    )
    parser.add_argument(
        '--crop-size', type=int, nargs=2, default=job.crop_size, metavar=('H', 'W')
    )
    parser.add_argument(
        '--num-modules', type=int, nargs='+', default=job.num_modules, metavar='K'
    )
    parser.add_argument(
        '--cards',
        type=float,
        nargs='+',
        default=job.cards,
        metavar='GIB',
        help='memory of the GPUs to plan for and to imitate, in GiB',
    )
    parser.add_argument('--steps', type=int, default=job.steps, help='timed steps')
    parser.add_argument(
        '--warmup',
        type=int,
        default=job.warmup,
        help='untimed steps before them, at least 2',
    )
    parser.add_argument('--seed', type=int, default=job.seed)
    parser.add_argument(
        '--networks',
        nargs='*',
        default=job.networks,
        metavar='CONFIG',
        help='other networks to predict and time; default: six of mmseg',
    )
    _add_camvid(parser, job)
    args = parser.parse_args(argv)
    if args.minutes <= 0 or args.steps < 1 or args.warmup < 2:
        parser.error('--minutes and --steps must be above 0, --warmup at least 2')
    if args.iterations < 1:
        parser.error('--iterations must be above 0')
    for name in ('camvid', 'weights'):
        path = getattr(args, name)
        if path is not None and not Path(path).exists():
            parser.error(f'--{name} {path} does not exist')
    return args


def _add_camvid(parser: argparse.ArgumentParser, job: Job) -> None:
    group = parser.add_argument_group('accuracy on CamVid')
    group.add_argument(
        '--camvid', metavar='DIR', help='its folder; without it the part is skipped'
    )
    group.add_argument(
        '--camvid-crop',
        type=int,
        nargs=2,
        default=job.camvid_crop,
        metavar=('H', 'W'),
        help='default: whole images',
    )
    group.add_argument(
        '--iterations',
        type=int,
        default=job.iterations,
        help=f'iterations of each run; default: {job.iterations}',
    )
    group.add_argument('--seeds', type=int, nargs='+', default=job.seeds)
    group.add_argument(
        '--weights',
        metavar='FILE',
        help='ImageNet weights of MobileNetV2; without them it trains from scratch',
    )


def main(argv: list[str] | None = None) -> int:
    """Run what is left, write the page; 1 if a part failed."""
    args = parse_args(argv)
    require_device(args.device, None)
    fields = {k: v for k, v in vars(args).items() if k in Job.__dataclass_fields__}
    job = Job(**with_tuples(fields))
    states = run_parts(job, args.out, seconds=60 * args.minutes)
    print(write_page(args.out, _facts(job), states))
    reserve = reserve_of(args.out)
    if reserve is not None:
        print(
            f'\nin use beyond the prediction, at most: {gib(reserve)}. For plans for '
            f'this GPU: --reserve {gib(reserve).replace(" ", "")}'
        )
    return int(any(state.startswith('failed') for state in states.values()))


def _facts(job: Job) -> dict[str, Any]:
    return {
        'GPU': device_name(job.device),
        'versions': {**versions(), 'CUDA': torch.version.cuda},
        'date': datetime.date.today().isoformat(),
        'seed': job.seed,
        'command': this_command('python tools/gpu_proof.py'),
    }
