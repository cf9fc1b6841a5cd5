"""Compare predicted peaks of the planner's plans with whole steps on fake tensors."""

import argparse
import dataclasses

from ..planner.from_config import setting_of
from ..planner.make import Setting, planned_model
from ..planner.search.costs import Partition
from ..planner.search.decide import cheapest, most_even, smallest
from ..planner.search.frontiers import AUTO
from ..planner.search.totals import module_peaks, predicted_peak, spelled_recompute
from ..settings.recompute_mode import RecomputeMode
from ..settings.sizes import gib
from ..settings.splits import check_splits
from .run import CONFIG_HELP, KeyValues, make_parser

_EXPLANATION = """First even modules for each K with nothing and with everything
recomputed (by three optimizers: SGD with momentum, SGD, AdamW), then what the planner
chooses: for each K the plan of least memory, and the cheapest plans within six budgets,
with K open and K=3.
"""
OPTIMIZERS = (
    {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9, 'weight_decay': 0.0005},
    {'type': 'SGD', 'lr': 0.01},
    {'type': 'AdamW', 'lr': 0.01},
)
# From 0, the least possible memory, to 1, that of end-to-end training.
BUDGETS = (0, 0.02, 0.05, 0.1, 0.2, 0.4)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        __doc__,
        _EXPLANATION,
    )
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('--batch-size', type=int, default=4, metavar='B')
    parser.add_argument('--crop-size', type=int, nargs=2, metavar=('H', 'W'))
    parser.add_argument('--amp', choices=('float16', 'bfloat16'))
    parser.add_argument('--num-modules', type=int, default=6, help='largest K')
    parser.add_argument(
        '--splits', nargs='*', metavar='UNIT', help='check only the plan of these cuts'
    )
    parser.add_argument(
        '--local', nargs='+', action=KeyValues, default={}, metavar='KEY=VALUE'
    )
    return parser.parse_args()


def main() -> None:
    """Plan, count and print the largest error."""
    args = parse_args()
    setting = setting_of(
        args.config,
        local={'head': 'lean', **args.local},
        batch_size=args.batch_size,
        crop_size=args.crop_size and tuple(args.crop_size),
        amp_dtype=args.amp,
    )
    if args.splits is not None:
        print(_compared(setting, tuple(args.splits)))
        return
    counts = range(1, args.num_modules + 1)
    errors: list[list[float]] = []
    for optimizer in OPTIMIZERS:
        wrapper = {'type': 'OptimWrapper', 'optimizer': optimizer}
        by_it = dataclasses.replace(setting, optim_wrapper=wrapper)
        # A few suffice: the first optimizer has shown the rest.
        some = counts if optimizer is OPTIMIZERS[0] else [*counts][:4:3]
        errors += [_errors(by_it, plan) for k in some for plan in _even(by_it, k)]
    _print('even', errors)
    errors = [_errors(setting, plan) for plan in _chosen(setting, counts)]
    _print('chosen', errors)


def _compared(setting: Setting, splits: tuple[str, ...]) -> str:
    """Both peaks of a plan that recomputes nothing."""
    chain = setting.measured()
    check_splits([unit.name for unit in chain.units], splits)
    plan = chain.cut_after(splits)
    predicted, tracked = predicted_peak(chain, plan), setting.tracked_peak(splits, ())
    return f'predicted {gib(predicted)}, a step needs {gib(tracked)}'


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


def _errors(setting: Setting, plan: Partition) -> list[float]:
    """How much peaks are predicted too high: that of the step, that of each module."""
    chain = setting.measured()
    recompute = spelled_recompute(chain, plan)
    model = planned_model(setting.model, chain.splits(plan), recompute)
    step = setting.tracked_step_of(model)
    predicted = predicted_peak(chain, plan), *module_peaks(chain, plan)
    tracked = step.peak_bytes, *step.module_peaks
    return [p / t - 1 for p, t in zip(predicted, tracked, strict=True)]


def _print(kind: str, errors: list[list[float]]) -> None:
    worst = max((steps for steps, *_ in errors), key=abs)
    modules = [error for _, *modules in errors for error in modules]
    print(
        f'{len(errors)} {kind} plans, largest error {worst:+.3%}; '
        f'of a module {max(modules, key=abs):+.3%}',
        flush=True,
    )
