"""The memory of local modules, between walls that no gradient crosses. Pure numbers.

The order of events is that of `InfoProEncoderDecoder.loss` with `LocalBackwardHook`:
the units of a module, its local head, its auxiliary heads, then all of them backwards.
The backward of the last module runs after autocast has ended.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from .costs import Chain, Skip
from .memory import (
    Bytes,
    Modules,
    Open,
    Room,
    carried_skips,
    crossing_skips,
    end_room,
    is_read,
    num_carried_skips,
    unit_effect,
    unit_step,
    waiting_skips,
)


class LocalModules(Modules):
    """Local modules as they are folded.

    Peaks are without the weights and the optimizer state of local heads, which are in
    memory for all modules, and without what the heads of earlier modules leave behind:
    gradients and weight copies. The first need of a sequence of modules are the former,
    the second the highest peak without them.
    """

    is_exact = False
    differs_at_start = True

    def starts(self, end: int, *, is_last: bool) -> Iterator[range]:
        """See `Modules`."""
        if not is_last:
            yield from _start_ranges(self.chain, end, range(end))
        elif self.chain.end_to_end is None:
            yield from _start_ranges(self.chain, end, range(end + 1))
        else:
            yield range(1)
            yield from _start_ranges(self.chain, end, range(1, end + 1))

    def counting(self, start: int) -> Chain:
        """See `Modules`: a single module is end-to-end training."""
        return self.chain.uncut if start == 0 else self.chain

    def end(self, start: int, opened: Open, tail_mode: RecomputeMode) -> Room:
        """See `Modules`: heads and losses."""
        if opened.is_last:
            return end_room(self.counting(start), start, opened.end, tail_mode)
        return end_room(self.chain, start, opened.end, None)

    def put_before(
        self, room: Room, i: int, mode: RecomputeMode, opened: Open, start: int
    ) -> Room:
        """See `Modules`."""
        chain, (low, end, is_last) = self.chain, opened
        step = unit_step(chain, i, start, num_carried_skips(chain, i, low), mode=mode)
        crossing = crossing_skips(chain, end)
        effect = unit_effect(chain, i, step, end, is_last=is_last, crossing=crossing)
        effect = effect.taking(carried_skips(chain, i, low))
        return room.arrive(i).before(effect).wait(waiting_skips(chain, i, low))

    def peak(
        self, start: int, opened: Open, room: Room, cuts: Sequence[int] = ()
    ) -> Bytes:
        """See `Modules`; with the local heads of the given cuts."""
        total, casts = base_bytes(self.chain, start, cuts)
        if opened.is_last:
            backward = room.held if start == 0 else room.backward
            return total + np.maximum(room.forward + casts, backward)
        is_held = _holds_start(
            self.chain, start, crossing_skips(self.chain, opened.end)
        )
        backward = room.held if is_held else room.backward
        return total + casts + np.maximum(room.forward, backward)

    def flops(self, start: int, opened: Open) -> int:
        """See `Modules`: the local head."""
        return 0 if opened.is_last else self.chain.heads[opened.end - 1].step.flops

    def wall(self, start: int, end: int) -> tuple[int, int]:
        """See `Modules`: a local head.

        The last module holds its weight copies in the forward pass only; here they
        count in both.
        """
        step = self.chain.heads[end - 1].step
        return self.chain.head_state_bytes(end), step.grads + step.casts

    def needs_of_last(self, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Modules`."""
        return np.zeros_like(peaks), peaks

    def highest(self, first: Bytes, second: Bytes) -> Bytes:
        """See `Modules`."""
        return first + second


def _start_ranges(chain: Chain, end: int, starts: range) -> Iterator[range]:
    """The first units of a module, for every way it may start.

    Within each range the module makes the same maps that are read in it.

    Args:
        chain: Costs.
        end: Index behind the module's last unit.
        starts: Where it may start; ``end`` is the tail alone.
    """
    read = set(chain.tail_reads).union(*(r.reads for r in chain.auxiliaries))
    marks = {chain.outputs[i].unit for i in read}
    for skip in chain.skips:
        if skip.reader < end:
            # The map right at the wall is a case of its own, see `carried_skips`.
            marks.update((skip.unit, skip.unit + 1))
    low = 0
    for high in (*sorted(unit for unit in marks if unit < end - 1), end - 1, end):
        first, last = max(low, starts[0]), min(high, starts[-1])
        if first <= last:
            yield range(first, last + 1)
        low = high + 1


def _holds_start(chain: Chain, start: int, crossing: Sequence[Skip]) -> bool:
    """Whether what flows into a module but the last is alive until it is done.

    The image is the caller's. Behind a wall it is so only for an output that is read
    later, and for one of the ``crossing`` skips.
    """
    if start == 0:
        return True
    return is_read(chain, start - 1) or any(s.unit == start - 1 for s in crossing)


def base_bytes(chain: Chain, start: int, cuts: Sequence[int]) -> tuple[int, int]:
    """Bytes alive as the module that starts at a unit begins.

    Args:
        chain: Costs.
        start: Index of the module's first unit.
        cuts: All cuts of the plan, as indices of the unit behind.

    Returns:
        Everything but weight casts, and the weight casts of earlier modules.
    """
    before = [r.step for r in chain.auxiliaries if chain.last_read(r) < start]
    before += [chain.heads[cut - 1].step for cut in cuts if cut <= start]
    total = (
        chain.start_bytes
        + round(chain.optimizer_factor * chain.parameter_bytes)
        + sum(chain.head_state_bytes(cut) for cut in cuts)
        + chain.grads_before[start]
        + sum(step.grads for step in before)
        + chain.carried_bytes(start)
    )
    return total, chain.casts_before[start] + sum(step.casts for step in before)


def optimizer_peak(chain: Chain, cuts: Sequence[int]) -> int:
    """Most bytes alive while the optimizer steps."""
    parameters = chain.parameter_bytes + sum(
        chain.heads[cut - 1].parameter_bytes for cut in cuts
    )
    return (
        chain.start_bytes
        + sum(chain.head_state_bytes(cut) for cut in cuts)
        + round(chain.optimizer_factor * chain.parameter_bytes)
        + round((1 + chain.step_factor) * parameters)
    )
