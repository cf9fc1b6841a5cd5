"""Train a segmentation network, as local modules or end-to-end."""

import argparse

from mmengine.config import Config
from mmengine.runner import Runner

from ..checkpoints.loading import resume_last_checkpoint, weights_only_loading
from ..datasets import check_data, loaders_of
from ..pipeline import PipelineRunner, num_stages_of
from ..version import __version__
from .check_model import check_model
from .config import (
    add_config_arguments,
    add_trust_argument,
    check_amp,
    complete_training,
    connected_processes,
    enable_amp,
    load_config,
    warn_of_idle_pipeline,
)
from .run import make_parser, this_command

EXAMPLE = """example:
  python tools/train.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      --data-root /data/cityscapes --work-dir runs/k2
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='continue from the last whole checkpoint in the work dir',
    )
    add_trust_argument(parser)
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
    check_amp(cfg)
    trust_pickle = args.trust_checkpoint
    if args.resume:
        resume_last_checkpoint(cfg, trust_pickle=trust_pickle)
    complete_training(cfg)
    warn_of_idle_pipeline(cfg)
    check_model(cfg)
    check_data(cfg, loaders=loaders_of(cfg, training=True))
    with connected_processes(cfg), weights_only_loading(trust_pickle=trust_pickle):
        _train(cfg, is_pipeline=num_stages_of(cfg, args.launcher) > 1)


def _train(cfg: Config, *, is_pipeline: bool) -> None:
    """Train; the runner ends with the call, before the processes are disconnected."""
    runner = (PipelineRunner if is_pipeline else Runner).from_cfg(cfg)
    # tools/report.py reads it.
    command = this_command('python tools/train.py')
    runner.logger.info(f'infopro_seg {__version__}, command: {command}')
    runner.train()
