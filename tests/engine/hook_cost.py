"""What the hooks of the default configs cost on a CPU, in percent of a step.

    OMP_NUM_THREADS=1 python tests/engine/hook_cost.py --pairs 100 --seed 0

Trains the K=3 ResNet-18 of configs/infopro_deeplabv3_r18_streets.py on random images
of 128x256, 2 at a time. Every other iteration is measured by LocalModuleMonitorHook.
Times are CPU time of the process, so that other programs on the machine matter less.
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from infopro_seg.engine.loss_guard_hook import LossGuardHook  # noqa: E402
from tests.engine.runs import Augment, Scenes, loader, runner_of  # noqa: E402

NUM_WARM_UP = 4


class Clock(Hook):
    """CPU time of every iteration, with what other hooks do after it."""

    priority = 'LOWEST'

    def __init__(self):
        self.seconds = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seconds.append(-time.process_time())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seconds[-1] += time.process_time()


def time_guard(seconds):
    """Let the loss guard note the CPU time of its check."""
    check = LossGuardHook._check

    def timed(self, *args):
        start = time.process_time()
        check(self, *args)
        seconds.append(time.process_time() - start)

    LossGuardHook._check = timed


def main():
    """Train, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--pairs', type=int, default=100, help='of iterations')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = Config.fromfile(
        ROOT / 'configs' / 'infopro_deeplabv3_r18_streets.py'
    ).model.to_dict()
    data = {**loader(), 'dataset': Scenes(pipeline=[Augment((128, 256))])}
    guard = []
    time_guard(guard)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        runner_of(
            Path(folder),
            iterations=NUM_WARM_UP + 2 * args.pairs,
            interval=-1,
            model=model,
            train_dataloader=data,
            hooks=[{'type': 'LocalModuleMonitorHook', 'interval': 2}, clock],
        ).train()
    seconds = clock.seconds[NUM_WARM_UP:]
    plain, measured = seconds[::2], seconds[1::2]
    step = statistics.median(plain)
    ratios = [a / b - 1 for a, b in zip(measured, plain, strict=True)]
    low, middle, high = (100 * q for q in statistics.quantiles(ratios, n=4))
    print(f'a step: {step:.4f} s of CPU time')
    print(
        f'a measured step: {middle:+.2f}% (median of {args.pairs} pairs, quartiles '
        f'{low:+.2f}% to {high:+.2f}%)'
    )
    print(f'loss guard: {100 * statistics.median(guard) / step:.3f}% of a step')


if __name__ == '__main__':
    main()
