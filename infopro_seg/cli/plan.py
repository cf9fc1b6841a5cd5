"""Choose local modules and recompute so that training fits a GPU, without a GPU."""

import argparse
import dataclasses

from ..planner.from_config import setting_of
from ..planner.limits import (
    along_the_dial,
    crop_of,
    has_default_heads,
    largest_batch,
    largest_crop,
    smallest_crop_step,
    what_fits,
    with_lean_heads,
)
from ..planner.make import RESERVE_BYTES, Setting, make_plan
from ..planner.pipeline import plan_pipeline
from ..planner.search.decide import ACCURACY, MOST_EXACT_WORK, PREFERENCES
from ..planner.search.frontiers import CHOICES, LEAST
from ..report.measured import read_price_list
from ..report.pipeline_text import pipeline_report
from ..report.plan_text import (
    dial_report,
    fits_report,
    lean_heads_line,
    plan_report,
)
from ..settings.plan import Plan
from ..settings.sizes import gib, parse_bytes
from .run import (
    CONFIG_HELP,
    KeyValues,
    make_parser,
    output_file,
    picture_file,
    reserve_bytes,
)

EXAMPLE = """examples:
  python tools/plan.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      --gpu-memory 11GiB --batch-size 4 --out plan.json
  python tools/train.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      --local plan=plan.json --cfg-options total_batch_size=4
  python tools/plan.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      --gpu-memory 11GiB --num-gpus 2 --out plan.json
  python tools/plan.py mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py \\
      --gpu-memory 24GiB --max-batch
  python tools/plan.py configs/infopro_deeplabv3_r101_cityscapes.py \
      --pipeline 2 --link 25GB/s --batch-size 8

The exit code is 1 if nothing fits.
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument(
        '--gpu-memory', metavar='SIZE', help='memory of one GPU, such as 11GiB'
    )
    parser.add_argument(
        '--num-modules',
        type=int,
        metavar='K',
        help='number of local modules, or segments; default: as many as are best',
    )
    parser.add_argument(
        '--prefer',
        choices=PREFERENCES,
        default=ACCURACY,
        help='with --gpu-memory, and unless --recompute is least; accuracy (default): '
        'exact end-to-end training if it fits for at most '
        f'{100 * MOST_EXACT_WORK:.0f}%% more FLOPs, else the fewest local modules; '
        'speed: the fewest FLOPs; memory: the least memory',
    )
    parser.add_argument(
        '--exact',
        action='store_true',
        help='plan exact end-to-end training alone (end_to_end_every=1)',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        metavar='B',
        help='images per GPU; default: those of the config',
    )
    parser.add_argument(
        '--num-gpus',
        type=int,
        default=1,
        metavar='N',
        help='GPUs that total_batch_size of a config is divided over; default: 1',
    )
    parser.add_argument(
        '--crop-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='default: that of the config',
    )
    parser.add_argument(
        '--recompute',
        choices=CHOICES,
        default='auto',
        help='recompute inside the modules; auto (default): as much as is needed to '
        'fit; least: whatever makes the peak smallest; always: every unit',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    inverse = parser.add_mutually_exclusive_group()
    inverse.add_argument(
        '--max-batch',
        action='store_true',
        help='find the largest batch that fits; with --prefer accuracy, that still '
        'trains exactly, if there is one',
    )
    inverse.add_argument(
        '--max-crop', action='store_true', help='find the largest crop that fits'
    )
    parser.add_argument(
        '--reserve',
        type=reserve_bytes,
        metavar='SIZE',
        default=RESERVE_BYTES,
        help='memory of the GPU that the model may not use (context, workspaces), such '
        f'as 1GiB or 0GiB; default: {gib(RESERVE_BYTES)}',
    )
    parser.add_argument(
        '--local',
        nargs='+',
        action=KeyValues,
        default={},
        metavar='KEY=VALUE',
        help='settings of local besides the splits, e.g. head=paper',
    )
    _add_pipeline_arguments(parser)
    parser.add_argument('--out', type=output_file, help='plan file (.json) to write')
    parser.add_argument(
        '--plot', type=picture_file, help='picture of the memory to write'
    )
    parser.add_argument('--force', action='store_true', help='overwrite files')
    args = parser.parse_args()
    is_open = args.gpu_memory is None and args.num_modules is None
    if is_open and args.recompute != LEAST and args.pipeline is None:
        parser.error('give --gpu-memory, --num-modules, --recompute least or several')
    if args.pipeline is not None:
        _refuse_beside_pipeline(parser, args)
    if args.gpu_memory is None and (args.max_batch or args.max_crop):
        parser.error('--max-batch and --max-crop need --gpu-memory')
    for path in (args.out, args.plot):
        if path and path.exists() and not args.force:
            parser.error(f'{path} exists; pass --force to overwrite it')
    return args


def _add_pipeline_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('pipeline')
    group.add_argument(
        '--pipeline',
        type=int,
        metavar='P',
        help='plan a pipeline of P devices, which train P local modules at the same '
        'time, each on whole batches; with --gpu-memory, that of each device',
    )
    group.add_argument(
        '--link',
        default='16GB/s',
        metavar='SPEED',
        help='from one device to the next, such as 25GB/s; default: 16GB/s',
    )
    group.add_argument(
        '--tflops',
        type=float,
        default=20.0,
        metavar='T',
        help='TFLOP/s of one device on this network; default: 20',
    )


def _refuse_beside_pipeline(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    others = ('num_modules', 'exact', 'max_batch', 'max_crop', 'out', 'plot')
    for name in others:
        if getattr(args, name):
            parser.error(
                f'--{name.replace("_", "-")} has no meaning beside --pipeline, which '
                'cuts into one module for each device'
            )
    if args.tflops <= 0:
        parser.error('--tflops must be above 0')


def show_pipeline(args: argparse.Namespace, setting: Setting) -> int:
    """Plan a pipeline and print it."""
    budget = None
    if args.gpu_memory is not None:
        budget = parse_bytes(args.gpu_memory, '--gpu-memory') - args.reserve
    plan = plan_pipeline(setting, args.pipeline, budget=budget)
    if plan is None:
        print(
            f'no pipeline of {args.pipeline} devices fits in {args.gpu_memory} each: '
            'use a smaller batch or crop, or more devices.'
        )
        return 1
    link = parse_bytes(args.link.removesuffix('/s'), '--link')
    print(pipeline_report(plan, setting.batch_size, link, 1e12 * args.tflops))
    return 0


def find_plan(args: argparse.Namespace, setting: Setting) -> Plan | None:
    """The plan that was asked for; None if not even one image, or crop, fits."""
    settings = {
        'num_modules': args.num_modules,
        'gpu_memory': args.gpu_memory and parse_bytes(args.gpu_memory, '--gpu-memory'),
        'recompute': args.recompute,
        'reserve': args.reserve,
        'prefer': args.prefer,
        'exact': args.exact or None,
    }
    if args.max_batch:
        return largest_batch(setting, **settings)
    if args.max_crop:
        return largest_crop(setting, **settings)
    return make_plan(setting, **settings)


def nothing_smaller(args: argparse.Namespace, setting: Setting) -> str:
    """Why no smaller batch or crop fits, as the end of a sentence."""
    if args.max_batch:
        return ', whatever the batch'
    least = smallest_crop_step(setting)
    if least == 1:
        return ', whatever the crop'
    height, width = crop_of(setting, least)
    return (
        f': the smallest crop that this network takes is {height}x{width}; use a '
        'smaller batch or a GPU of more memory'
    )


def main() -> int:
    """Plan, report, write."""
    args = parse_args()
    setting = setting_of(
        args.config,
        local=args.local,
        batch_size=args.batch_size,
        crop_size=args.crop_size,
        amp_dtype='float16' if args.amp else None,
        num_gpus=args.num_gpus,
    )
    if args.pipeline is not None:
        return show_pipeline(args, setting)
    plan = find_plan(args, setting)
    if plan is None:
        print(f'nothing fits in {args.gpu_memory}{nothing_smaller(args, setting)}.')
        return 1
    print(plan_report(plan))
    if args.gpu_memory is not None:
        height, width = plan.crop_size
        planned = dataclasses.replace(
            setting, batch_size=plan.batch_size, crop_size=(height, width)
        )
        wish = {'num_modules': args.num_modules, 'recompute': args.recompute}
        memory = plan.gpu_memory_bytes or 0
        wish['reserve'] = args.reserve
        plans = along_the_dial(planned, memory, **wish)
        prices = read_price_list() if has_default_heads(setting) else []
        print('\n' + dial_report(plans, plan, prices))
        if plan.splits and plan.end_to_end_every != 1:
            wish.update(gpu_memory=memory, prefer=args.prefer)
            print(lean_heads_line(plan, with_lean_heads(planned, **wish)), end='')
    if not (args.max_batch or args.max_crop):
        fits = what_fits(setting, args.reserve, args.recompute)
        print('\n' + fits_report(fits, args.reserve))
    if args.out:
        plan.save(args.out)
        print(f'\nwrote {args.out}')
    if args.plot:
        from ..report.plots import plot_plan

        plot_plan(plan, args.plot)
        print(f'wrote {args.plot}')
    return 1 if plan.fits is False else 0
