"""Compare ways to train a network, side by side: time, memory, what fits a GPU."""

import argparse
import json
from collections.abc import Sequence

from ..benchmark.facts import facts_of_run, require_device
from ..benchmark.largest import best_plans, largest_sizes
from ..benchmark.method import KINDS, PREDICTED, Method
from ..benchmark.methods import methods
from ..benchmark.rivals import BUDGETS, MOST_BUDGETS
from ..benchmark.steps import Measured, measure
from ..benchmark.summary import summarised
from ..checkpoints.files import write_whole
from ..planner.from_config import setting_of
from ..planner.make import RESERVE_BYTES
from ..report.benchmark_text import largest_report, methods_report
from ..settings.sizes import gib, parse_bytes
from .run import (
    CONFIG_HELP,
    KeyValues,
    make_parser,
    output_file,
    reserve_bytes,
    this_command,
)

EXAMPLE = """examples:
  python tools/benchmark.py configs/infopro_deeplabv3_r101_cityscapes_k4.py \\
      --num-modules 2 4 8 --batch-size 2 --crop-size 256 512 --json r101.json
  python tools/analysis/plot_benchmark.py r101.json r101.png
  python tools/benchmark.py configs/infopro_deeplabv3_r101_cityscapes_k4.py \\
      --steps 0 --batch-size 4 --gpu-memory 8GiB 11GiB 24GiB
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('config', help=CONFIG_HELP)
    _add_compared(parser)
    _add_step(parser)
    _add_timing(parser)
    _add_gpus(parser)
    parser.add_argument(
        '--json',
        metavar='FILE',
        type=output_file,
        help='file to write all numbers to',
    )
    parser.add_argument('--force', action='store_true', help='overwrite the file')
    args = parser.parse_args()
    if args.steps < 0 or args.warmup < 2:
        parser.error('--steps must be at least 0 and --warmup at least 2')
    if len(args.budgets) > MOST_BUDGETS or not all(0 <= b <= 1 for b in args.budgets):
        parser.error(f'--budgets must be up to {MOST_BUDGETS} numbers from 0 to 1')
    if args.json and args.json.exists() and not args.force:
        parser.error(f'{args.json} exists; pass --force to overwrite it')
    return args


def _add_compared(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('methods')
    group.add_argument(
        '--methods',
        nargs='+',
        choices=KINDS,
        default=PREDICTED,
        help='selective, compile and save_on_cpu are what torch offers for the stock '
        f'model; default: {" ".join(PREDICTED)}',
    )
    group.add_argument(
        '--budgets',
        type=float,
        nargs='+',
        metavar='SHARE',
        default=BUDGETS,
        help='activation_memory_budget of compile, from 0 to 1, one method each; '
        f'default: {" ".join(map(str, BUDGETS))}',
    )
    group.add_argument(
        '--num-modules',
        type=int,
        nargs='+',
        metavar='K',
        default=[2, 4],
        help='numbers of local modules to compare; default: 2 4',
    )
    group.add_argument(
        '--local',
        nargs='+',
        action=KeyValues,
        default={},
        metavar='KEY=VALUE',
        help='local settings other than the cuts, e.g. head=lean',
    )
    group.add_argument(
        '--drop-auxiliary-heads',
        action='store_true',
        help='local methods train without them (model.auxiliary_head=None)',
    )


def _add_step(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('training step')
    group.add_argument(
        '--batch-size',
        type=int,
        metavar='B',
        help='images per step; default: those of the config',
    )
    group.add_argument(
        '--crop-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='default: that of the config',
    )
    group.add_argument(
        '--amp', choices=('float16', 'bfloat16'), help='mixed precision (needs a GPU)'
    )


def _add_timing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('timing')
    group.add_argument(
        '--device', choices=('cpu', 'cuda'), default='cpu', help='default: cpu'
    )
    group.add_argument(
        '--steps',
        type=int,
        default=20,
        help='timed steps per method; 0: only predict; default: 20',
    )
    group.add_argument(
        '--warmup',
        type=int,
        default=3,
        help='untimed steps before them, at least 2; default: 3',
    )
    group.add_argument(
        '--seed', type=int, default=0, help='seed of weights and images; default: 0'
    )


def _add_gpus(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what fits')
    group.add_argument(
        '--gpu-memory',
        nargs='+',
        default=[],
        metavar='SIZE',
        help='GPUs, such as 8GiB 11GiB, for the largest batch and crop that fit',
    )
    group.add_argument(
        '--reserve',
        type=reserve_bytes,
        metavar='SIZE',
        default=RESERVE_BYTES,
        help='memory of a GPU that the model may not use (context, workspaces); '
        f'default: {gib(RESERVE_BYTES)}',
    )


def main() -> None:
    """Predict, run, report, write."""
    args = parse_args()
    if args.steps:
        require_device(args.device, args.amp, args.methods)
    setting = setting_of(
        args.config,
        local=args.local,
        batch_size=args.batch_size,
        crop_size=args.crop_size,
        amp_dtype=args.amp,
    )
    cards = [parse_bytes(card, '--gpu-memory') for card in args.gpu_memory]
    compared = methods(
        setting,
        args.methods,
        args.num_modules,
        keeps_auxiliary_heads=not args.drop_auxiliary_heads,
        updates_at_once=args.device != 'cpu' or not args.steps,
        budgets=args.budgets,
    )
    entries = summarised(compared, _measured(compared, args))
    print(methods_report(entries))
    largest = largest_sizes(compared, cards, args.reserve)
    largest += best_plans(setting, cards, args.reserve)
    if largest:
        print('\n' + largest_report(largest, args.reserve))
    if args.json:
        result = {
            'command': this_command('python tools/benchmark.py'),
            **facts_of_run(args, setting),
            'methods': entries,
            'reserve_bytes': args.reserve,
            'largest': [entry._asdict() for entry in largest],
        }
        text = json.dumps(result, indent=1) + '\n'
        write_whole(text.encode(), args.json)
        print(f'\nwrote {args.json}')


def _measured(
    compared: Sequence[Method], args: argparse.Namespace
) -> Sequence[Measured | None]:
    if not args.steps:
        return [None] * len(compared)
    return measure(
        compared,
        device=args.device,
        steps=args.steps,
        warmup=args.warmup,
        seed=args.seed,
    )
