"""Compare rows of a study with each other, over the seeds that both have."""

import argparse
from pathlib import Path

from ..report.tables import text_table
from ..study.rows import read_folder
from ..study.summary import paired_difference
from .run import make_parser

EXAMPLE = """example:
  python tools/analysis/compare_rows.py results/mobilenetv2/rows \\
      --pair 'InfoPro K=4' 'greedy K=4' --pair 'InfoPro K=8' 'greedy K=8'
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('folder', type=Path, help='rows that tools/study.py wrote')
    parser.add_argument(
        '--pair',
        nargs=2,
        action='append',
        required=True,
        metavar=('ROW', 'LESS'),
        help='names of two rows; may be given several times',
    )
    parser.add_argument(
        '--comparisons',
        type=int,
        default=1,
        metavar='N',
        help='N intervals hold together with 95%% (Bonferroni); default: 1',
    )
    args = parser.parse_args(argv)
    if args.comparisons < 1:
        parser.error(f'--comparisons {args.comparisons} must be 1 or more')
    return args


def main(argv: list[str] | None = None) -> None:
    """Read, compare, print.

    Raises:
        ValueError: if a row is not there, two files are of one run, or two rows have
            fewer than three seeds in common.
    """
    args = parse_args(argv)
    scores = {
        name: {seed: record['miou'] for seed, record in records.items()}
        for name, records in read_folder(args.folder).items()
    }
    lines: list[tuple[str, ...]] = [('', 'seeds', 'mIoU', 'low', 'high')]
    for row, less in args.pair:
        for name in (row, less):
            if name not in scores:
                raise ValueError(
                    f'{args.folder} has no row {name!r}; it has: '
                    f'{", ".join(scores) or "none"}.'
                )
        level = 1 - 0.05 / args.comparisons
        found = paired_difference(scores[row], scores[less], level)
        if found is None or found['low'] is None:
            raise ValueError(
                f'{row!r} and {less!r} have fewer than three seeds in common.'
            )
        numbers = (f'{found[key]:+.2f}' for key in ('mean', 'low', 'high'))
        lines.append((f'{row} less {less}', str(len(found['seeds'])), *numbers))
    print(text_table(lines))
