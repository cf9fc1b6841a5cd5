"""Print the plans of a network by K: the least memory, and its cost in FLOPs."""

import argparse
from collections.abc import Iterator

from ..planner.from_config import setting_of
from ..planner.search.costs import Chain, Partition
from ..planner.search.decide import MEMORY, Wish, cheapest, decide, most_even, smallest
from ..planner.search.frontiers import LEAST
from ..planner.search.totals import extra_flops, predicted_peak, total_flops
from ..report.tables import markdown_table
from .run import CONFIG_HELP, make_parser

_EPILOG = """\
example:
  python tools/analysis/plan_table.py configs/infopro_deeplabv3_r101_cityscapes.py \\
      --batch-size 4
"""
# "10% above it" and the shares of end-to-end training with K open.
SLACK = 1.1
SHARES = (0.16, 0.2)
# Shares of end-to-end training that exact plans are to need.
EXACT_SHARES = (0.5, 0.4, 0.35, 0.3, 0.25, 0.2)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, _EPILOG)
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('--batch-size', type=int, metavar='B')
    parser.add_argument('--crop-size', type=int, nargs=2, metavar=('H', 'W'))
    parser.add_argument(
        '--num-modules', type=int, nargs='+', default=[1, 2, 3, 4, 6, 8], metavar='K'
    )
    return parser.parse_args()


def main() -> None:
    """Measure, plan and print."""
    args = parse_args()
    setting = setting_of(
        args.config,
        local={'head': 'lean'},
        batch_size=args.batch_size,
        crop_size=args.crop_size and tuple(args.crop_size),
    )
    chain = setting.measured()
    counts = (*args.num_modules, None)
    rows = []
    for name, plans in _rows(chain, counts):
        peaks, flops = zip(*(_shown(chain, plan) for plan in plans), strict=True)
        rows += [(name, *peaks), ('its extra FLOPs', *flops)]
    header = ('', *(f'K={k}' if k else 'best' for k in counts))
    print(markdown_table(header, rows))
    whole = chain.whole
    for share in SHARES:
        plan = cheapest(chain, int(share * predicted_peak(chain, whole)))
        ratio = total_flops(chain, plan) / total_flops(chain, whole) if plan else 1
        print(
            f'within {share:.0%}: {" costs ".join(_shown(chain, plan))}; '
            f'with what walls save, {ratio:.3f} times end-to-end'
        )
    print('\nexact end-to-end training:')
    print(markdown_table(_EXACT_HEADER, [*_exact_rows(chain)]))


_EXACT_HEADER = ('memory', 'segments', 'recomputed units', 'FLOPs (end-to-end: 1)')


def _exact_rows(chain: Chain) -> Iterator[tuple[str, str, str, str]]:
    """The exact plans of the least work within shares of end-to-end training."""
    whole_peak, whole_flops = (
        total(chain, chain.whole) for total in (predicted_peak, total_flops)
    )
    wish = Wish(exact=True)
    plans = [decide(chain, wish, int(share * whole_peak)) for share in EXACT_SHARES]
    least = decide(chain, wish._replace(prefer=MEMORY), None)
    for plan, _ in (*(found for found in plans if found[1]), least):
        yield (
            f'{predicted_peak(chain, plan) / whole_peak:.1%}',
            str(len(plan.ends)),
            str(sum(mode > 0 for mode in plan.recompute.values())),
            f'{total_flops(chain, plan) / whole_flops:.3f}',
        )


def _rows(
    chain: Chain, counts: tuple[int | None, ...]
) -> Iterator[tuple[str, list[Partition | None]]]:
    """What the rows are, and their plans, by number of modules; None leaves it open."""
    yield (
        'no recompute',
        [most_even(chain, k) if k else smallest(chain) for k in counts],
    )
    plans = [smallest(chain, num_modules=k, recompute=LEAST) for k in counts]
    yield 'least memory', [*plans]
    budgets = [int(SLACK * predicted_peak(chain, plan)) for plan in plans]
    yield (
        f'{SLACK - 1:.0%} above it',
        [
            cheapest(chain, budget, num_modules=k)
            for budget, k in zip(budgets, counts, strict=True)
        ],
    )


def _shown(chain: Chain, plan: Partition | None) -> tuple[str, str]:
    """Peak and extra FLOPs as shares of end-to-end training."""
    if plan is None:
        return '', ''
    whole = chain.whole
    share = predicted_peak(chain, plan) / predicted_peak(chain, whole)
    flops = extra_flops(chain, plan) / total_flops(chain, whole)
    return f'{share:.1%} (K={len(plan.ends)})', f'{flops:.1%}'
