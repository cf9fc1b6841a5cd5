"""Write a checkpoint without local heads, which stock mmsegmentation loads strictly."""

import argparse

from ..checkpoints.export import export, find_checkpoint, read_trained_config
from .config import add_trust_argument
from .run import make_parser, output_file

EXAMPLE = """examples:
  python tools/export_model.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      work_dirs/infopro_deeplabv3_r101_cityscapes/iter_40000.pth deeplabv3.pth
  python tools/export_model.py work_dirs/infopro_deeplabv3_r101_cityscapes deeplabv3.pth

A work dir has the config of its run; without CHECKPOINT, its last one is exported.
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        'config',
        help='config the checkpoint was trained with (a file, infopro_seg::NAME, '
        'mmseg::NAME), or the work dir of the run',
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file (.pth), or a URL; default: the last one of the work dir',
    )
    parser.add_argument(
        'out',
        type=output_file,
        help='file to write (.pth); its config goes beside it',
    )
    parser.add_argument('--force', action='store_true', help='overwrite existing files')
    add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Export, check that stock mmsegmentation loads the result, report."""
    args = parse_args()
    cfg = read_trained_config(args.config)
    trust_pickle = args.trust_checkpoint
    checkpoint = find_checkpoint(
        cfg, args.config, args.checkpoint, trust_pickle=trust_pickle
    )
    report = export(
        cfg,
        checkpoint,
        args.out,
        force=args.force,
        trust_pickle=trust_pickle,
    )
    print(report)
