"""Draw what is kept, what runs again and where gradients go, for docs/dial.md."""

import argparse

from ..report.dial_picture import draw_dial
from .run import make_parser, picture_file

EXAMPLE = """example:
  python tools/analysis/draw_dial.py docs/dial.png
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('out', type=picture_file, help='picture file to write')
    return parser.parse_args()


def main() -> None:
    """Draw."""
    args = parse_args()
    draw_dial(args.out)
    print(f'wrote {args.out}')
