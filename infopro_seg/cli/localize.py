"""Write a config that turns an mmseg config into local modules."""

import argparse

from ..planner.from_config import settle_cuts
from ..settings.config import divide_batch, read_config
from ..settings.localize import localize, write_localized
from .check_model import build_bare
from .run import CONFIG_HELP, KeyValues, make_parser, output_file

EXAMPLE = """example:
  python tools/localize.py \\
      mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py pspnet_k4.py \\
      --local num_modules=4
  python tools/train.py pspnet_k4.py

With gpu_memory=11GiB the planner chooses, for the batch and crop of the config on one
GPU; the file then has its splits.
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('out', type=output_file, help='config file to write')
    parser.add_argument(
        '--local',
        nargs='+',
        action=KeyValues,
        required=True,
        metavar='KEY=VALUE',
        help='the local setting, e.g. num_modules=4 or splits=layer3.5,',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    return parser.parse_args()


def main() -> None:
    """Build the model once, to find wrong settings now; then write."""
    args = parse_args()
    cfg = read_config(args.config)
    settings = localize(cfg, args.local)
    if cfg.model.local.get('gpu_memory') is not None:
        divide_batch(cfg, 1)
        settle_cuts(cfg)
        planned = cfg.model.local.to_dict()
        settings['model']['local'] = {k: v for k, v in planned.items() if v is not None}
    modules = build_bare(cfg).local_modules
    write_localized(cfg, args.config, settings, args.out, force=args.force)
    print(f'wrote {args.out}:')
    print('\n'.join(f'  {module}' for module in modules))
