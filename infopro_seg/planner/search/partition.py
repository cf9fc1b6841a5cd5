"""Where to cut, and what to recompute: the decisions of the planner. Pure numbers."""

from ...settings.recompute_mode import RecomputeMode
from .costs import Chain, Partition
from .rows import ALWAYS, AUTO, NEVER, cheapest_within, even_cuts, least_peaks
from .totals import extra_flops, predicted_peak

# Attempts to meet a budget exactly, each setting room for local heads aside as the
# attempt before has shown.
_MAX_ATTEMPTS = 8
# Part of the budget that need not be known more exactly.
_RESERVE_PRECISION = 0.002
# Halvings in the search for a partition of the same work in less memory.
_TIGHTENINGS = 4
# What even modules may cost.
_UNEVEN_PEAK = 1.02


def cheapest(
    chain: Chain,
    budget: int,
    *,
    num_modules: int | None = None,
    recompute: str = AUTO,
) -> Partition | None:
    """The partition of least extra FLOPs whose training step fits.

    Exact for local heads without weights. Their weights, gradients and optimizer state
    are in memory for all modules at once: if the partition that is best without them
    does not fit with them, room is set aside for them and what is found fits, but
    need not be the best.

    Args:
        chain: Costs.
        budget: Bytes.
        num_modules: Number of modules; None leaves it open.
        recompute: ``never``, ``always``, or ``auto`` for where it is needed.

    Returns:
        The partition, or None if none fits. Among equal FLOPs, one of a low peak.
    """
    found = cheapest_within(chain, budget, num_modules=num_modules, recompute=recompute)
    if found is None:
        return None
    if predicted_peak(chain, found) <= budget:
        return _tightened(chain, found, num_modules, recompute)
    found = _with_reserve(chain, budget, num_modules, recompute)
    if found is None:
        found = _within_smallest(chain, budget, num_modules, recompute)
    return found if predicted_peak(chain, found) <= budget else None


def smallest(
    chain: Chain, *, num_modules: int | None = None, recompute: str = NEVER
) -> Partition:
    """The partition whose largest module is smallest.

    Exact for local heads without weights, see `cheapest`. Of the ways to recompute
    that reach this peak, the one of least extra FLOPs.

    Args:
        chain: Costs.
        num_modules: Number of modules, from 1; None leaves it open.
        recompute: ``never``, ``always``, or ``auto`` for whatever needs least.

    Raises:
        ValueError: if the chain cannot be cut into so many modules.
    """
    options = least_peaks(chain, recompute)
    if num_modules is not None:
        if not 1 <= num_modules <= len(options):
            raise ValueError(
                f'num_modules={num_modules} is out of range: this network of '
                f'{len(chain.units)} units can be cut into 1 (end-to-end) to '
                f'{len(options)} modules with something to train in each.'
            )
        options = options[num_modules - 1 : num_modules]
    # The state of local heads comes on top: go on while it might be less elsewhere.
    at_least = [
        (peak + sum(chain.head_state_bytes(cut) for cut in cuts), peak, cuts)
        for peak, cuts in options
    ]
    best, least = Partition(()), None
    for bound, peak, cuts in sorted(at_least, key=lambda option: option[:2]):
        if least is not None and bound >= least:
            break
        found = _decided(chain, peak, cuts, recompute)
        total = predicted_peak(chain, found)
        if least is None or total < least:
            best, least = found, total
    return best


def most_even(chain: Chain, num_modules: int, recompute: str = NEVER) -> Partition:
    """As `smallest`, but modules that do not decide the peak are alike, too.

    Where the decode head is the largest module whatever is cut, `smallest` may leave
    the others as they come, a single unit beside ten. If there is a choice, the decode
    head does not stand alone: units with it learn from the network's own loss.

    Args:
        chain: Costs.
        num_modules: See `smallest`.
        recompute: See `smallest`.

    Returns:
        A partition whose peak is at most 2% above the smallest one.

    Raises:
        ValueError: see `smallest`.
    """
    least = smallest(chain, num_modules=num_modules, recompute=recompute)
    highest = int(_UNEVEN_PEAK * predicted_peak(chain, least))
    peak, _ = least_peaks(chain, recompute)[num_modules - 1]
    for slack, head_alone in ((1, False), (_UNEVEN_PEAK, False), (1, True)):
        limit = int(slack * peak)
        cuts = even_cuts(chain, limit, num_modules, recompute, head_alone=head_alone)
        if cuts is not None:
            found = _decided(chain, limit, cuts, recompute)
            # Local heads, of which `even_cuts` knows little, may be larger.
            if predicted_peak(chain, found) <= highest:
                return found
    return least


def _tightened(
    chain: Chain, found: Partition, num_modules: int | None, recompute: str
) -> Partition:
    """Another partition of the same extra FLOPs that leaves more memory free."""
    flops = extra_flops(chain, found)
    low, high = 0, predicted_peak(chain, found)
    for _ in range(_TIGHTENINGS):
        limit = (low + high) // 2
        other = cheapest_within(
            chain,
            limit,
            num_modules=num_modules,
            recompute=recompute,
            most_flops=flops,
        )
        # The state of local heads, which the limit does not count, may be larger.
        if (
            other is not None
            and extra_flops(chain, other) == flops
            and predicted_peak(chain, other) <= predicted_peak(chain, found)
        ):
            found, high = other, limit
        else:
            low = limit
    return found


def _decided(
    chain: Chain, peak: int, cuts: tuple[int, ...], recompute: str
) -> Partition:
    """What to recompute between given cuts, so that a peak is not exceeded."""
    ends = (*cuts, len(chain.units))
    if recompute == NEVER:
        return Partition(ends)
    if recompute == ALWAYS:
        units = range(len(chain.units))
        whole = RecomputeMode.WHOLE
        return Partition(ends, dict.fromkeys(units, whole), whole)
    found = cheapest_within(chain, peak, recompute=recompute, cuts=cuts)
    if found is None:
        raise AssertionError(f'no partition of peak {peak} with cuts {cuts}')
    return found


def _with_reserve(
    chain: Chain, budget: int, num_modules: int | None, recompute: str
) -> Partition | None:
    """The best partition found with room set aside for local heads."""
    best, too_little, enough, reserve = None, 0, None, 0
    for _ in range(_MAX_ATTEMPTS):
        found = cheapest_within(
            chain, budget - reserve, num_modules=num_modules, recompute=recompute
        )
        missing = 0 if found is None else predicted_peak(chain, found) - budget
        if found is None or missing <= 0:
            best, enough = found or best, reserve
        else:
            too_little = reserve
        if enough is None:
            reserve = max(4 * too_little, too_little + missing)
        elif enough - too_little > budget * _RESERVE_PRECISION:
            reserve = (too_little + enough) // 2
        else:
            break
    return best


def _within_smallest(
    chain: Chain, budget: int, num_modules: int | None, recompute: str
) -> Partition:
    """The cuts of the smallest partition, with no more recompute than needed."""
    least = smallest(chain, num_modules=num_modules, recompute=recompute)
    cuts = least.ends[:-1]
    heads = sum(chain.head_state_bytes(cut) + _left(chain, cut) for cut in cuts)
    found = cheapest_within(chain, budget - heads, recompute=recompute, cuts=cuts)
    return least if found is None else found


def _left(chain: Chain, cut: int) -> int:
    step = chain.heads[cut - 1].step
    return step.grads + step.casts
