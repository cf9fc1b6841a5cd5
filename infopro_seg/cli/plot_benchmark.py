"""Draw memory against time from the numbers of a benchmark."""

import argparse
import json
from pathlib import Path

from ..report.plots import plot_benchmark
from .run import make_parser, picture_file

EXAMPLE = """example:
  python tools/analysis/plot_benchmark.py r101.json r101.png
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('json', help='what a benchmark wrote with --json')
    parser.add_argument('picture', type=picture_file, help='file to write')
    parser.add_argument('--force', action='store_true', help='overwrite the picture')
    args = parser.parse_args(argv)
    if args.picture.exists() and not args.force:
        parser.error(f'{args.picture} exists; pass --force to overwrite it')
    return args


def main(argv: list[str] | None = None) -> None:
    """Draw."""
    args = parse_args(argv)
    result = json.loads(Path(args.json).read_text(encoding='utf-8'))
    plot_benchmark(result, args.picture)
    print(f'wrote {args.picture}')
