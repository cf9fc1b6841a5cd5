"""Compare predicted peaks of the planner's plans with whole steps on fake tensors."""

import argparse
import dataclasses

from ..planner.from_config import setting_of
from ..planner.make import Setting
from ..planner.search.costs import Partition
from ..planner.search.describe import spelled_recompute
from ..planner.search.memory import predicted_peak
from ..planner.search.partition import cheapest, most_even, smallest
from ..planner.search.rows import AUTO
from ..settings.recompute_mode import RecomputeMode
from .run import make_parser

OPTIMIZERS = (
    {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9, 'weight_decay': 0.0005},
    {'type': 'SGD', 'lr': 0.01},
    {'type': 'AdamW', 'lr': 0.01},
)
# Between the least memory that is possible and end-to-end training.
BUDGETS = (0, 0.02, 0.05, 0.1, 0.2, 0.4)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} First even modules for each K with nothing and with everything '
        'recomputed (by three optimizers: SGD with momentum, SGD, AdamW), then what '
        'the planner chooses: for each K the plan of least memory, and the cheapest '
        'plans within six budgets, with K open and K=3.',
        '',
    )
    parser.add_argument('config', help='config file (.py), or mmseg::NAME')
    parser.add_argument('--batch-size', type=int, default=4, metavar='B')
    parser.add_argument('--crop-size', type=int, nargs=2, metavar=('H', 'W'))
    parser.add_argument('--amp', choices=('float16', 'bfloat16'))
    parser.add_argument('--num-modules', type=int, default=6, help='largest K')
    return parser.parse_args()


def main() -> None:
    """Plan, count and print the largest error."""
    args = parse_args()
    setting = setting_of(
        args.config,
        local={'head': 'lean'},
        batch_size=args.batch_size,
        crop_size=args.crop_size and tuple(args.crop_size),
        amp_dtype=args.amp,
    )
    counts = range(1, args.num_modules + 1)
    errors = []
    for optimizer in OPTIMIZERS:
        wrapper = {'type': 'OptimWrapper', 'optimizer': optimizer}
        by_it = dataclasses.replace(setting, optim_wrapper=wrapper)
        # More of it repeats what the first optimizer has shown.
        some = counts if optimizer is OPTIMIZERS[0] else [*counts][:4:3]
        errors += [_error(by_it, plan) for k in some for plan in _even(by_it, k)]
    _print('even', errors)
    errors = [_error(setting, plan) for plan in _chosen(setting, counts)]
    _print('chosen', errors)


def _even(setting: Setting, num_modules: int) -> list[Partition]:
    """Even modules, nothing recomputed, and the same with all units recomputed."""
    plan = most_even(setting.measured(), num_modules)
    units = range(len(setting.measured().units))
    whole = RecomputeMode.WHOLE
    return [plan, Partition(plan.ends, dict.fromkeys(units, whole), whole)]


def _chosen(setting: Setting, counts: range) -> list[Partition]:
    """What the planner takes: of least memory, and cheapest within budgets."""
    chain = setting.measured()
    plans: list[Partition | None] = [
        smallest(chain, num_modules=k, recompute=AUTO) for k in counts
    ]
    least = predicted_peak(chain, smallest(chain, recompute=AUTO))
    most = predicted_peak(chain, smallest(chain, num_modules=1))
    for part in BUDGETS:
        budget = int(least + part * (most - least))
        plans += [cheapest(chain, budget, num_modules=k) for k in (None, 3)]
    return [plan for plan in plans if plan is not None]


def _error(setting: Setting, plan: Partition) -> float:
    """How much the predicted peak is above the tracked one, as a part of it."""
    chain = setting.measured()
    splits = chain.splits(plan)
    tracked = setting.tracked_peak(splits, spelled_recompute(chain, plan))
    return predicted_peak(chain, plan) / tracked - 1


def _print(kind: str, errors: list[float]) -> None:
    worst = max(errors, key=abs)
    print(f'{len(errors)} {kind} plans, largest error {100 * worst:+.3f}%', flush=True)
