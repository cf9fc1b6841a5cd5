"""Score saved predictions with the official Cityscapes evaluation."""

import argparse
import json
import os
import sys
from pathlib import Path

from .run import make_parser, output_file

_EPILOG = """\
example, with predictions saved by the test run of a config:
  python tools/test.py CONFIG CHECKPOINT --out preds
  python tools/evaluate_cityscapes.py data/cityscapes preds --json scores.json

PREDICTIONS holds one single-channel PNG per image, named like the image
(frankfurt_000000_000294_leftImg8bit.png). The ground truth *_gtFine_labelIds.png comes
with gtFine_trainvaltest.zip. Without the compiled extension of cityscapesscripts the
500 images of val take about a minute.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, _EPILOG)
    parser.add_argument('data_root', metavar='DATA_ROOT', type=Path)
    parser.add_argument('predictions', metavar='PREDICTIONS', type=Path)
    parser.add_argument('--split', choices=('train', 'val'), default='val')
    parser.add_argument(
        '--format',
        choices=('train-ids', 'label-ids'),
        default='train-ids',
        help='what the pixels hold: train-ids 0..18 (IoUMetric) or label-ids '
        '(CityscapesMetric); default: %(default)s',
    )
    parser.add_argument(
        '--json', metavar='FILE', type=output_file, help='save the scores'
    )
    parser.add_argument(
        '--force', action='store_true', help='replace FILE if it exists'
    )
    return parser.parse_args(argv)


def check_writable(path: Path, *, force: bool) -> None:
    """Check before the evaluation that its result can be saved.

    Raises:
        FileExistsError: if the file exists and force is not given.
    """
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists; give --force to replace it')


def save(record: dict, path: Path) -> None:
    """Write a record as JSON, atomically."""
    partial = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        partial.write_text(json.dumps(record, indent=2, allow_nan=False) + '\n')
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return the exit code."""
    args = parse_args(argv)
    try:
        if args.json:
            check_writable(args.json, force=args.force)
        from ..evaluation import cityscapes_scores as scoring

        scores = scoring.evaluate_predictions(
            args.data_root,
            args.predictions,
            split=args.split,
            pixel_format=args.format,
        )
        print(scoring.table_of(scores))
        if args.json:
            save(scoring.record_of(scores), args.json)
            print(f'saved {args.json}')
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0
