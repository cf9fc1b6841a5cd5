"""Make the training labels of Cityscapes from its official download."""

import argparse
import os
import sys
from pathlib import Path

from .run import make_parser

_EPILOG = """\
example:
  python tools/prepare_cityscapes.py data/cityscapes --num-workers 8

DATA_ROOT holds gtFine/ and leftImg8bit/, unpacked from gtFine_trainvaltest.zip and
leftImg8bit_trainvaltest.zip (https://www.cityscapes-dataset.com/downloads/). Every
*_gtFine_polygons.json gets a *_gtFine_labelTrainIds.png beside it. The run can be
interrupted and started again. The exit code is 0 if every image of the requested splits
has its label image at the end.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, _EPILOG)
    parser.add_argument('data_root', metavar='DATA_ROOT', type=Path)
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
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> bool:
    """Make missing labels and print what is there; return whether all is well."""
    from ..datasets import cityscapes_labels as labels

    splits = list(dict.fromkeys(args.splits))
    found = labels.find_annotations(args.data_root, splits)
    todo = [x for x in found if args.force or not labels.label_path(x).exists()]
    print(f'{len(found)} annotations, {len(found) - len(todo)} already converted')
    results = labels.make_label_images(todo, num_workers=args.num_workers)
    from tqdm import tqdm  # comes with cityscapesscripts, which is there by now

    # In a log file every refresh adds a line.
    seconds = 0.1 if sys.stderr.isatty() else 10
    progress = tqdm(
        results, total=len(todo), unit='image', mininterval=seconds, disable=not todo
    )
    broken = [(path, error) for path, error in progress if error is not None]
    surveys = [labels.survey(args.data_root, split) for split in splits]
    for survey in surveys:
        print(labels.summary_of(survey))
    for path, error in broken:
        print(f'error: {path}: {error}', file=sys.stderr)
    return not broken and all(x.is_trainable for x in surveys)


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
    return 0
