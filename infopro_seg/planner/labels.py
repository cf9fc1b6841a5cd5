"""Labels: ways to run the end of a chain, as rows of numbers. Pure numbers.

A label says what everything from some unit on costs, and what room its module, still
open to the left, needs. A label that another one beats in every number is dropped:
whatever comes before depends on these numbers alone.
"""

from typing import NamedTuple

import numpy as np

from ..settings.recompute_mode import RecomputeMode
from .costs import Skip, Waiting
from .room import Effect

# Columns of an array of labels: extra FLOPs; the room as in `Room`; the highest peak of
# the modules that are closed; the index of the last decision.
COST, FORWARD, BACKWARD, HELD, AFTER, WORST, LINK = range(7)
# Chains of repeated blocks need far fewer; the bound is for adversarial numbers. What
# is thinned out leaves a partition that fits, if not the cheapest.
_MAX_LABELS = 100
NO_LINK = -1
NUM_MODES = len(RecomputeMode)


class Kind(NamedTuple):
    """What labels must have in common to be compared.

    Args:
        num_modules: Modules so far; 0 if their number does not matter.
        is_last: Whether the open module is the last one.
        low: The least unit that the open module may start with.
        high: The greatest one; within, it makes the same maps that heads read.
        waiting: See `Room`.
        crossing: Skips of units still to come that later modules take; none of the
            last module.
    """

    num_modules: int
    is_last: bool
    low: int = 0
    high: int = 0
    waiting: tuple[Waiting, ...] = ()
    crossing: tuple[Skip, ...] = ()


Labels = dict[Kind, np.ndarray]
#: The best closed label, by number of modules.
Closed = dict[int, np.ndarray]
#: A trainable unit, and the labels of modules that end with it and that go on.
Trunk = tuple[int, Labels, Labels]


def arrived(labels: np.ndarray, kind: Kind, i: int) -> np.ndarray:
    """`Room.arrive` for labels."""
    here = [waiting for waiting in kind.waiting if waiting.unit == i]
    if not here:
        return labels
    labels = labels.copy()
    three_maps = labels[:, AFTER] + 2 * max(waiting.map_bytes for waiting in here)
    labels[:, BACKWARD] = np.maximum(labels[:, BACKWARD], three_maps)
    labels[:, HELD] = np.maximum(labels[:, HELD], three_maps)
    labels[:, AFTER] -= sum(waiting.num_bytes for waiting in here)
    return labels


def extended(labels: np.ndarray, mode: int, cost: int, effect: Effect) -> np.ndarray:
    """`Room.before` for labels; the links of recomputed ones are marked."""
    new = labels.copy()
    new[:, COST] += cost
    forward = effect.forward_kept + labels[:, FORWARD]
    new[:, FORWARD] = np.maximum(effect.forward_peak, forward)
    later = labels[:, HELD if effect.holds_output else BACKWARD]
    for column, peak in ((BACKWARD, effect.peak), (HELD, effect.held_peak)):
        new[:, column] = effect.kept + np.maximum(later, labels[:, AFTER] + peak)
    new[:, AFTER] += effect.left
    if mode:
        # Below `NO_LINK`: the decision waits to be noted.
        new[:, LINK] = -2 - ((labels[:, LINK] + 1) * NUM_MODES + mode)
    return new


def unmarked(links: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The modes and the links that marked links stand for."""
    after, modes = np.divmod(-2 - links, NUM_MODES)
    return modes, after - 1


def undominated(labels: np.ndarray) -> np.ndarray:
    """Those that no other one beats in cost and room, by cost."""
    order = [WORST, AFTER, HELD, BACKWARD, FORWARD, COST]
    labels = labels[np.lexsort(labels[:, order].T)]
    if len(labels) < 2:
        return labels
    room = labels[:, [FORWARD, BACKWARD, HELD, AFTER]]
    # beats[j, i]: j comes first and needs no more room than i.
    beats = np.all(room[:, None] <= room[None], axis=2)
    labels = labels[~np.triu(beats, k=1).any(axis=0)]
    if len(labels) <= _MAX_LABELS:
        return labels
    # The tightest ones must stay, or a limit that can be met might be missed.
    tightest = [
        np.maximum(labels[:, FORWARD], labels[:, BACKWARD]).argmin(),
        np.maximum(labels[:, FORWARD], labels[:, HELD]).argmin(),
        labels[:, BACKWARD].argmin(),
        labels[:, HELD].argmin(),
    ]
    kept = np.linspace(0, len(labels) - 1, _MAX_LABELS).round().astype(int)
    return labels[np.union1d(kept, tightest)]


def stacked(first: np.ndarray | None, second: np.ndarray) -> np.ndarray:
    """Labels with others below; None stands for no labels."""
    return second if first is None else np.concatenate([first, second])
