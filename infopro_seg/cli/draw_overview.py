"""Draw measured memory beside measured accuracy, for the README."""

import argparse
import json
from pathlib import Path

from ..report.overview_picture import draw_overview
from .run import make_parser, picture_file

EXAMPLE = """example:
  python tools/analysis/draw_overview.py results/benchmark.json \\
      results/mobilenetv2.json docs/overview.png
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('benchmark', type=Path, help='what a benchmark wrote (--json)')
    parser.add_argument('study', type=Path, help='what a study wrote, NAME.json')
    parser.add_argument('out', type=picture_file, help='picture file to write')
    return parser.parse_args()


def main() -> None:
    """Draw."""
    args = parse_args()
    benchmark, study = (
        json.loads(path.read_text(encoding='utf-8'))
        for path in (args.benchmark, args.study)
    )
    draw_overview(benchmark, study, args.out)
    print(f'wrote {args.out}')
