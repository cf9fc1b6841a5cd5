"""Unpack the official download of Cityscapes and make its training labels."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .run import make_parser

_EPILOG = """\
example:
  python tools/prepare_cityscapes.py data/cityscapes
  python tools/prepare_cityscapes.py /data/cityscapes \\
      --zips ~/gtFine_trainvaltest.zip ~/leftImg8bit_trainvaltest.zip

Download gtFine_trainvaltest.zip (241 MB) and leftImg8bit_trainvaltest.zip (11 GB) from
https://www.cityscapes-dataset.com/downloads/ into DATA_ROOT, or name them with --zips.
They are unpacked to gtFine/ and leftImg8bit/ in DATA_ROOT; without zip files, these
folders must be there. Then every *_gtFine_polygons.json gets a
*_gtFine_labelTrainIds.png beside it. The run can be interrupted and started again. The
exit code is 0 if every image of the requested splits has its label image at the end.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, _EPILOG)
    parser.add_argument('data_root', metavar='DATA_ROOT', type=Path)
    parser.add_argument(
        '--zips',
        nargs='+',
        type=Path,
        default=[],
        metavar='FILE',
        help='zip files of the download; default: those in DATA_ROOT',
    )
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=('train', 'val', 'test'),
        default=['train', 'val'],
        help='default: train val (test has no public labels, only dummies)',
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        default=min(8, os.cpu_count() or 1),
        help='number of processes (default: %(default)s)',
    )
    parser.add_argument(
        '--force', action='store_true', help='make existing label images again'
    )
    args = parser.parse_args(argv)
    if args.num_workers < 1:  # said before anything is unpacked
        parser.error(f'--num-workers must be at least 1, got {args.num_workers}')
    return args


def prepare(args: argparse.Namespace) -> bool:
    """Unpack, make missing labels, print what is there; return whether all is well."""
    from ..datasets import cityscapes_labels as labels

    labels.require_cityscapesscripts()
    splits = list(dict.fromkeys(args.splits))
    unpack(args.data_root, args.zips, splits)
    found = labels.find_annotations(args.data_root, splits)
    todo = [x for x in found if args.force or not labels.label_path(x).exists()]
    print(f'{len(found)} annotations, {len(found) - len(todo)} already converted')
    results = labels.make_label_images(todo, num_workers=args.num_workers)
    progress = _progress(results, total=len(todo), unit='image', disable=not todo)
    broken = [(path, error) for path, error in progress if error is not None]
    surveys = [labels.survey(args.data_root, split) for split in splits]
    for survey in surveys:
        print(labels.summary_of(survey))
    for path, error in broken:
        print(f'error: {path}: {error}', file=sys.stderr)
    return not broken and all(x.is_trainable for x in surveys)


def unpack(root: Path, given: Sequence[Path], splits: Sequence[str]) -> None:
    """Unpack what is missing of the zip files, if there are any.

    Raises:
        FileNotFoundError: if neither a folder nor its zip file is there.
        ValueError: if a zip file is damaged or of something else.
        RuntimeError: if the disk has no room.
    """
    from ..datasets import cityscapes_labels as labels
    from ..datasets import cityscapes_zips as zips

    archives = zips.find_archives(root, given, splits)
    labels.check_layout(root, zipped=[x.folder for x in archives])
    todo = [(x, zips.members_to_unpack(x, root)) for x in archives]
    num_bytes = sum(zips.bytes_to_write(*x, root) for x in todo)
    if archives:
        free_bytes = zips.check_space(root, num_bytes)
        print(
            f'the zip files need {num_bytes / 1e9:.2f} GB more on the disk, which has '
            f'{free_bytes / 1e9:.2f} GB free'
        )
    for archive, members in todo:
        num_there = len(archive.members) - len(members)
        print(
            f'{archive.path}: {len(members)} files of {", ".join(splits)} to unpack, '
            f'{num_there} already there'
        )
        total = sum(x.file_size for x in members)
        with _progress(
            total=total, unit='B', unit_scale=True, disable=not members
        ) as progress:
            for size in zips.unpack(archive, members, root):
                progress.update(size)


def _progress(*args: Any, **settings: Any) -> Any:
    from tqdm import tqdm  # comes with cityscapesscripts

    # In a log file every refresh adds a line.
    seconds = 0.1 if sys.stderr.isatty() else 10
    return tqdm(*args, mininterval=seconds, **settings)


def _next_command(root: Path) -> str:
    return (
        'next: python tools/train.py configs/infopro_deeplabv3_r101_cityscapes.py '
        f'--data-root {shlex.quote(str(root))}'
    )


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return the exit code."""
    args = parse_args(argv)
    try:
        is_complete = prepare(args)
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted; run it again to continue', file=sys.stderr)
        return 130
    if not is_complete:
        print('error: not ready for training, see above', file=sys.stderr)
        return 1
    print('ready for training')
    if {'train', 'val'} <= set(args.splits):
        print(_next_command(args.data_root))
    return 0
