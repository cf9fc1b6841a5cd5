"""Plans of which every n-th step is exact, the others local. Pure numbers.

Both kinds of steps have the same cuts, the same recompute and the same local heads. In
an exact step each local head is trained on a detached map, right after its segment has
run forward; its gradients stay until the step is over.
"""

import dataclasses

from .costs import Chain, Partition
from .exact import exact_choices
from .memory import Room, effect_of
from .partition import cheapest, smallest
from .segments import bytes_before_head, can_run_again, segment_peaks
from .totals import extra_flops, predicted_peak, total_flops


def peak_every_nth(chain: Chain, partition: Partition) -> int:
    """Most bytes alive in any step.

    Args:
        chain: Costs.
        partition: The local modules, which are the segments of exact steps.
    """
    return max(predicted_peak(chain, partition), _exact_peak(chain, partition))


def flops_every_nth(chain: Chain, partition: Partition, period: int) -> tuple[int, int]:
    """FLOPs of a step on average: what is added to end-to-end training, and all.

    Never too few. The gradients of the maps that local heads read are counted in exact
    steps, too, which do not need them.

    Args:
        chain: Costs.
        partition: The local modules, which are the segments of exact steps.
        period: Every so many steps one is exact.
    """
    exact = dataclasses.replace(partition, is_exact=True)
    heads = sum(chain.heads[cut - 1].step.flops for cut in partition.heads)
    extra, total = (
        ((period - 1) * flops(chain, partition) + flops(chain, exact) + heads) // period
        for flops in (extra_flops, total_flops)
    )
    return extra, total


def cheapest_every_nth(
    chain: Chain,
    budget: int,
    period: int,
    *,
    num_modules: int | None = None,
    recompute: str,
) -> Partition | None:
    """The least work that fits, among the cuts of exact plans and of a local one.

    All cuts are not tried: what is found fits, but need not be the best.

    Args:
        chain: Costs.
        budget: Bytes.
        period: Every so many steps one is exact.
        num_modules: Number of modules; None leaves it open.
        recompute: See `cheapest`.
    """
    found = [
        dataclasses.replace(choice.partition, is_exact=False)
        for choice in exact_choices(chain, recompute, num_modules)
    ]
    local = cheapest(chain, budget, num_modules=num_modules, recompute=recompute)
    if local is not None and can_run_again(chain, local):
        found.append(local)
    fitting = [plan for plan in found if peak_every_nth(chain, plan) <= budget]
    return min(
        fitting, key=lambda plan: flops_every_nth(chain, plan, period)[1], default=None
    )


def least_every_nth(
    chain: Chain, *, num_modules: int | None = None, recompute: str
) -> Partition:
    """The least memory among the cuts of exact plans and of the smallest local one.

    Raises:
        ValueError: if the network cannot be cut into so many modules.
    """
    found = [
        dataclasses.replace(choice.partition, is_exact=False)
        for choice in exact_choices(chain, recompute, num_modules)
    ]
    local = smallest(chain, num_modules=num_modules, recompute=recompute)
    if can_run_again(chain, local):
        found.append(local)
    if not found:
        raise ValueError(
            f'num_modules={num_modules} is out of range: exact steps cannot run so '
            'many modules again.'
        )
    return min(found, key=lambda plan: peak_every_nth(chain, plan))


def _exact_peak(chain: Chain, partition: Partition) -> int:
    """Most bytes alive in an exact step with local heads."""
    uncut, exact = chain.uncut, dataclasses.replace(partition, is_exact=True)
    state = sum(chain.head_state_bytes(cut) for cut in partition.heads)
    steps = [chain.heads[cut - 1].step for cut in partition.heads]
    left = sum(step.grads + step.casts for step in steps)
    peaks = [peak + left for peak in segment_peaks(uncut, exact)]
    trained = 0
    for index, step in enumerate(steps):
        room = Room().before(effect_of(step, outlives_autocast=False))
        alive = bytes_before_head(uncut, exact, index) + trained
        peaks.append(int(alive + max(room.forward, room.backward)))
        trained += step.grads + step.casts
    return state + max(peaks)
