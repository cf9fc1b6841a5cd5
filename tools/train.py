"""Train a segmentation network, as local modules or end-to-end."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.runner import Runner

from infopro_seg.config import add_config_arguments, enable_amp, load_config
from infopro_seg.datasets import check_datasets

EXAMPLE = """example:
  python tools/train.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      --data-root /data/cityscapes --work-dir runs/k2
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on from the last checkpoint in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision (needs a GPU)'
    )
    return parser.parse_args()


def main() -> None:
    """Check everything that can be checked, then train."""
    args = parse_args()
    cfg = load_config(args)
    if args.amp:
        enable_amp(cfg)
    cfg.resume = args.resume
    check_datasets(cfg)
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
