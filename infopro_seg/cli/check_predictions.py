"""Compare predicted peaks of the planner's plans with whole steps on fake tensors."""

import argparse

from ..planner.costs import Partition
from ..planner.describe import spelled_recompute
from ..planner.from_config import setting_of
from ..planner.partition import cheapest, smallest
from ..planner.peaks import predicted_peak
from ..planner.search import AUTO
from .run import make_parser

# From 0, the least possible memory, to 1, that of end-to-end training.
BUDGETS = (0, 0.02, 0.05, 0.1, 0.2, 0.4)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} For each K the plan of least memory, and the cheapest plans within '
        'six budgets, with K open and K=3.',
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
    chain = setting.measured()
    plans: list[Partition | None] = [
        smallest(chain, num_modules=k, recompute=AUTO)
        for k in range(1, args.num_modules + 1)
    ]
    least = predicted_peak(chain, smallest(chain, recompute=AUTO))
    most = predicted_peak(chain, smallest(chain, num_modules=1))
    for part in BUDGETS:
        budget = int(least + part * (most - least))
        plans += [cheapest(chain, budget, num_modules=k) for k in (None, 3)]
    errors = []
    for plan in plans:
        if plan is not None:
            splits = tuple(chain.units[end - 1].name for end in plan.ends[:-1])
            tracked = setting.tracked_peak(splits, spelled_recompute(chain, plan))
            errors.append(predicted_peak(chain, plan) / tracked - 1)
    worst = max(errors, key=abs)
    print(f'{len(errors)} plans, largest error {100 * worst:+.3f}%')
