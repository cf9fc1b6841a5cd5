"""Collect what studies measured of accuracy, for the planner to show."""

import argparse
import json
from pathlib import Path

from ..checkpoints.files import write_whole
from ..report.measured import PRICE_LIST, price_list
from .run import make_parser, output_file

EXAMPLE = """example:
  python tools/analysis/price_list.py results/mobilenetv2.json

Rows with the default local heads and weights, and three seeds or more, are taken.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        'studies', nargs='+', type=Path, help='what tools/study.py wrote (.json)'
    )
    parser.add_argument(
        '--out',
        type=output_file,
        default=PRICE_LIST,
        help='default: that of the package',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read, select, write."""
    args = parse_args(argv)
    studies = [json.loads(path.read_text(encoding='utf-8')) for path in args.studies]
    prices = price_list(studies)
    text = json.dumps([entry._asdict() for entry in prices], indent=1) + '\n'
    write_whole(text.encode(), args.out)
    for entry in prices:
        print(f'{entry.about}: K={entry.num_modules}: {entry}')
    print(f'wrote {args.out}')
