"""Write a config that turns an mmseg config into local modules."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import DictAction

from infopro_seg.config import read_config
from infopro_seg.localize import localize, write_localized

EXAMPLE = """example:
  python tools/localize.py \\
      mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py pspnet_k4.py \\
      --local num_modules=4
  python tools/train.py pspnet_k4.py
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file, or mmseg::NAME')
    parser.add_argument('out', help='config file to write')
    parser.add_argument(
        '--local',
        nargs='+',
        action=DictAction,
        required=True,
        metavar='KEY=VALUE',
        help='the local setting, e.g. num_modules=4 or splits=layer3.5,',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    return parser.parse_args()


def main() -> None:
    """Build the model once, so that a wrong setting is known now, then write."""
    args = parse_args()
    cfg = read_config(args.config)
    settings = localize(cfg, args.local)
    modules = describe_modules(cfg)
    write_localized(args.config, settings, args.out, force=args.force)
    print(f'wrote {args.out}:')
    print('\n'.join(f'  {module}' for module in modules))


def describe_modules(cfg) -> list[str]:
    """The local modules of a config's model, built without weights."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    from infopro_seg.analysis.classify import WithoutStorage

    init_default_scope('mmseg')
    cfg.model.pop('pretrained', None)
    with WithoutStorage():
        model = MODELS.build(cfg.model)
    return [str(module) for module in model.local_modules]


if __name__ == '__main__':
    main()
