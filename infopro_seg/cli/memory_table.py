"""Predict the memory of many models, end-to-end and as K local modules, on no GPU."""

import argparse
import dataclasses
import json
import sys
import warnings

from ..checkpoints.files import write_whole
from ..report.pages import fill_page
from ..report.zoo_text import memory_report
from ..zoo.memory_table import REPRESENTATIVES, measure
from .run import KeyValues, make_parser, output_file

_EPILOG = """\
examples:
  python tools/memory_table.py --page docs/models.md
  python tools/memory_table.py --configs configs/infopro_pspnet_r101_cityscapes.py \\
      --num-modules 1 2 3 4

Ten seconds to half a minute per model the first time, see docs/planner.md. Models that
cannot be built here are left out with the reason; the exit code is 1 if another error
kept a model from being planned.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, _EPILOG)
    parser.add_argument(
        '--configs',
        nargs='+',
        default=[f'mmseg::{name}' for name in REPRESENTATIVES],
        metavar='CONFIG',
        help='files, or mmseg::NAME; default: one for each family of models',
    )
    parser.add_argument(
        '--num-modules', type=int, nargs='+', default=[2, 4, 8], metavar='K'
    )
    parser.add_argument(
        '--local',
        nargs='+',
        action=KeyValues,
        default={},
        metavar='KEY=VALUE',
        help='local settings other than the cuts, e.g. head=paper',
    )
    parser.add_argument('--batch-size', type=int, metavar='B')
    parser.add_argument('--crop-size', type=int, nargs=2, metavar=('H', 'W'))
    parser.add_argument(
        '--page', metavar='FILE', help='page to write the table into, between its marks'
    )
    parser.add_argument(
        '--json', metavar='FILE', type=output_file, help='save all numbers'
    )
    args = parser.parse_args(argv)
    if min(args.num_modules) < 1:
        parser.error(f'--num-modules {args.num_modules} must be 1 or more')
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    args = parse_args(argv)
    warnings.simplefilter('ignore')
    counts = sorted(set(args.num_modules))
    rows = []
    for config in args.configs:
        row = measure(
            config,
            counts,
            local=args.local,
            batch_size=args.batch_size,
            crop_size=args.crop_size and tuple(args.crop_size),
        )
        rows.append(row)
        print(f'{config}: {row.reason or "planned"}', file=sys.stderr, flush=True)
    table = memory_report(rows, counts)
    print(table)
    if args.page:
        fill_page(args.page, {'memory': table}, 'Predicted memory')
    if args.json:
        report = [dataclasses.asdict(row) for row in rows]
        write_whole((json.dumps(report, indent=1) + '\n').encode(), args.json)
    return int(any(row.is_failure for row in rows))
