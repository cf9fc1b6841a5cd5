"""Write a checkpoint without local heads, which stock mmsegmentation loads strictly."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infopro_seg.config import read_config
from infopro_seg.export import export

EXAMPLE = """example:
  python tools/export_model.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      work_dirs/infopro_deeplabv3_r101_cityscapes/iter_40000.pth deeplabv3.pth
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file (.pth)')
    parser.add_argument('out', help='file to write (.pth); its config goes beside it')
    parser.add_argument('--force', action='store_true', help='overwrite existing files')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load pickled objects; they can run any code: trusted sources only',
    )
    return parser.parse_args()


def main() -> None:
    """Export, check the result against the local model, report."""
    args = parse_args()
    report = export(
        read_config(args.config),
        args.checkpoint,
        args.out,
        force=args.force,
        trust_pickle=args.trust_checkpoint,
    )
    print(report)


if __name__ == '__main__':
    main()
