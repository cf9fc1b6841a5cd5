"""Evaluate a checkpoint and save its predictions; test-time augmentation on request."""

import argparse
import json
from pathlib import Path

from mmengine.runner import Runner

from ..checkpoints.files import write_whole
from ..checkpoints.loading import require_checkpoint, weights_only_loading
from ..datasets import check_data, loaders_of
from .config import (
    add_config_arguments,
    add_trust_argument,
    complete_test,
    connected_processes,
    enable_tta,
    load_config,
    save_predictions,
)
from .run import make_parser, output_file

EXAMPLE = """example:
  python tools/test.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      work_dirs/infopro_deeplabv3_r101_cityscapes/iter_40000.pth --tta --out predictions

The log goes to the folder test in the work dir.
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file (.pth), or a URL')
    parser.add_argument(
        '--tta',
        nargs='?',
        const='scales-flip',
        choices=('scales', 'scales-flip'),
        help='average over the scales of the config, and their mirror images '
        '(scales-flip, the default of --tta); without it: single scale',
    )
    parser.add_argument(
        '--out', help='folder for predictions: one PNG of class indices per image'
    )
    parser.add_argument('--json', type=output_file, help='file for the metrics')
    add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Check everything that can be checked, then evaluate.

    Predictions need no local modules: the stock network is tested.
    """
    args = parse_args()
    cfg = load_config(args)
    require_checkpoint(args.checkpoint)  # the config may import a loader
    # The config in the work dir stays that of the training run.
    cfg.work_dir = str(Path(cfg.work_dir) / 'test')
    complete_test(cfg)
    if args.tta:
        enable_tta(cfg, flip=args.tta == 'scales-flip')
    if args.out:
        save_predictions(cfg, args.out)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    check_data(cfg, loaders=loaders_of(cfg, training=False))
    with (
        connected_processes(cfg),
        weights_only_loading(trust_pickle=args.trust_checkpoint),
    ):
        metrics = Runner.from_cfg(cfg).test()
    if args.json:
        text = json.dumps(metrics, indent=2, default=float) + '\n'
        write_whole(text.encode(), args.json)
