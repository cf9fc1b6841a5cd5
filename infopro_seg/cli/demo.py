"""Train a small network as local modules on drawn street scenes, and look at it."""

import argparse
import sys
from pathlib import Path

from mmengine.runner import Runner

from ..evaluation.samples import render_samples
from ..report.pictures import save_grid
from .config import add_config_arguments, load_config
from .run import make_parser

CONFIG = 'infopro_seg::infopro_deeplabv3_r18_streets.py'
EXAMPLE = """example:
  python tools/demo.py
  python tools/demo.py --cfg-options train_cfg.max_iters=50
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    add_config_arguments(parser)
    parser.set_defaults(work_dir='demo_output')
    return parser.parse_args([CONFIG, *sys.argv[1:]])


def print_table(runner: Runner) -> None:
    """Print first and last logged losses of every local module, and the scores."""
    scalars = runner.message_hub.log_scalars
    modules = runner.model.local_modules
    print(f'\n{"module":<32} {"loss":<12} {"first":>8} {"last":>8}')
    for module in modules:
        is_last = module is modules[-1]
        prefix = 'train/decode.' if is_last else f'train/{module.name}.'
        for key in sorted(k for k in scalars if k.startswith(f'{prefix}loss')):
            values = scalars[key].data[0]
            first, last = values[:10].mean(), values[-50:].mean()
            name = key.removeprefix(prefix)
            print(f'{module!s:<32} {name:<12} {first:8.3f} {last:8.3f}')


def main() -> None:
    """Train, evaluate, print a table, save pictures."""
    args = parse_args()
    cfg = load_config(args)
    runner = Runner.from_cfg(cfg)
    runner.train()
    print_table(runner)
    scalars = runner.message_hub.log_scalars
    print(f'\nmIoU on {len(runner.val_dataloader.dataset)} unseen scenes: ', end='')
    print(f'{scalars["val/mIoU"].current():.2f} %')
    dataset = runner.val_dataloader.dataset
    rows = render_samples(runner.model, dataset, range(4))
    reconstructions = [m.name for m in runner.model.local_modules[:-1]]
    folder = Path(cfg.work_dir)
    for name, columns in (
        ('predictions.png', ['image', 'label', 'prediction']),
        ('reconstructions.png', ['image', *reconstructions]),
    ):
        save_grid(rows, columns, folder / name)
        print(f'wrote {folder / name}')
