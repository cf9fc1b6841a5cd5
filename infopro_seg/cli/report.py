"""Write one HTML page of a run, finished or not; several work dirs are compared."""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

from ..checkpoints.files import write_whole
from ..report.page import render_page
from ..version import __version__
from .config import add_trust_argument
from .read_run import read_work_dir
from .run import make_parser, output_file

EXAMPLE = """examples:
  python tools/report.py work_dirs/infopro_deeplabv3_r18_streets
  python tools/report.py work_dirs/k2 work_dirs/end-to-end --out comparison.html

The page is one file: it needs no network and no other file. An earlier one is replaced.
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        'work_dirs',
        nargs='+',
        type=Path,
        metavar='WORK_DIR',
        help='work dir of a training run',
    )
    parser.add_argument(
        '--out',
        type=output_file,
        metavar='FILE',
        help='page to write (.html); default: WORK_DIR/report.html',
    )
    parser.add_argument(
        '--samples',
        type=int,
        default=4,
        metavar='N',
        help='validation images to show predictions of, with the last checkpoint; '
        'default: 4, 0 for none',
    )
    parser.add_argument(
        '--no-predict',
        action='store_true',
        help='leave out predicted memory, which takes up to minutes for a network '
        'that has not been measured before',
    )
    add_trust_argument(parser)
    args = parser.parse_args()
    if args.samples < 0:
        parser.error(f'--samples {args.samples}: give 0 (none) or more')
    if args.out is None and len(args.work_dirs) > 1:
        parser.error('with several work dirs, give --out FILE')
    if args.out is not None and args.out.suffix not in ('.html', '.htm'):
        parser.error(f'--out {args.out}: give a file that ends in .html')
    return args


def main() -> None:
    """Read the runs, write the page."""
    args = parse_args()
    out = args.out or args.work_dirs[0] / 'report.html'
    names = _short_names([_checked(folder) for folder in args.work_dirs])
    now = datetime.datetime.now()
    runs = [
        read_work_dir(
            folder,
            name,
            now,
            num_samples=args.samples,
            predicts=not args.no_predict,
            trust_pickle=args.trust_checkpoint,
        )
        for folder, name in zip(args.work_dirs, names, strict=True)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(render_page(runs, now, __version__).encode(), out)
    print(f'wrote {out}')


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(
            f'work dir {folder} does not exist; give the folder that tools/train.py '
            'wrote to.'
        )
    if not any(folder.glob('*.py')) and not any(folder.glob('*/*.log')):
        raise ValueError(
            f'{folder} holds neither the config nor the log of a run; give the folder '
            'that tools/train.py wrote to.'
        )
    return folder.resolve()


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    if len(set(folders)) < len(folders):
        raise ValueError('a work dir is given twice; give each once.')
    for depth in range(1, max(len(folder.parts) for folder in folders)):
        names = ['/'.join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
