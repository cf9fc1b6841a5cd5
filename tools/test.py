"""Evaluate a checkpoint and save its predictions; test-time augmentation on request."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.runner import Runner

from infopro_seg.config import (
    add_config_arguments,
    add_trust_argument,
    enable_tta,
    init_cpu_processes,
    load_config,
)
from infopro_seg.datasets import check_datasets, check_images
from infopro_seg.loading import weights_only_loading

EXAMPLE = """example:
  python tools/test.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      work_dirs/infopro_deeplabv3_r101_cityscapes/iter_40000.pth --tta --out predictions
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file (.pth)')
    parser.add_argument(
        '--tta',
        nargs='?',
        const='scales-flip',
        choices=('scales', 'scales-flip'),
        help='average over the scales of the config, and their mirror images '
        '(scales-flip, the default of --tta); without it: single scale',
    )
    parser.add_argument(
        '--out', help='folder for predictions: one PNG of class indices an image'
    )
    parser.add_argument('--json', help='file for the metrics')
    add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Check everything that can be checked, then evaluate."""
    args = parse_args()
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint {args.checkpoint} does not exist.')
    cfg = load_config(args)
    if args.tta:
        enable_tta(cfg, flip=args.tta == 'scales-flip')
    if args.out:
        cfg.test_evaluator.output_dir = args.out
    cfg.load_from = args.checkpoint
    check_datasets(cfg)
    check_images(cfg)
    init_cpu_processes(cfg)
    with weights_only_loading(trust_pickle=args.trust_checkpoint):
        metrics = Runner.from_cfg(cfg).test()
    if args.json:
        Path(args.json).write_text(json.dumps(metrics, indent=2, default=float) + '\n')


if __name__ == '__main__':
    main()
