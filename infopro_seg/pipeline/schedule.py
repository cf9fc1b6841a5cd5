"""When each stage of a pipeline does what: a simulation. Pure numbers, no torch.

A stage works on one batch after the other. It waits for what the stage before has made
of the batch, and, if too many of its own messages are under way, for the next stage.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class StageTimes:
    """What one stage takes for one batch, in seconds.

    Args:
        to_wall: From the arrival of its input until its output can be sent: the
            forward passes of its modules, and the backward passes of all but the last.
        after_wall: The rest: local head and backward pass of the last module, and the
            step of the optimizer.
        message: Transfer of its output to the next stage; 0 for the last one.
    """

    to_wall: float
    after_wall: float
    message: float = 0.0

    @property
    def busy(self) -> float:
        """Seconds of work on one batch."""
        return self.to_wall + self.after_wall


class Work(NamedTuple):
    """One stage on one batch, as times from the beginning.

    Args:
        stage: Index of the stage.
        batch: Index of the batch.
        free: When the stage had finished the batch before.
        start: When it had its input.
        sent: When it could hand its output on.
        end: When it had finished.
    """

    stage: int
    batch: int
    free: float
    start: float
    sent: float
    end: float


def simulate(
    stages: Sequence[StageTimes], num_batches: int, queue: int = 2
) -> list[list[Work]]:
    """Run a pipeline on paper.

    Args:
        stages: What each stage takes.
        num_batches: Number of steps.
        queue: Batches that may be under way between two stages.

    Returns:
        For every stage, its work on each batch.

    Raises:
        ValueError: if there is no stage, or if the queue has no room.
    """
    if not stages or queue < 1:
        raise ValueError(f'{len(stages)} stages, queue={queue}: at least one of each.')
    done: list[list[Work]] = [[] for _ in stages]
    for batch in range(num_batches):
        arrival = 0.0
        for index, times in enumerate(stages):
            free = done[index][-1].end if batch else 0.0
            start = max(free, arrival)
            sent = start + times.to_wall
            if batch >= queue and index + 1 < len(stages):
                # The message before the last `queue` ones must have been taken.
                sent = max(sent, done[index + 1][batch - queue].start)
            end = sent + times.after_wall
            done[index].append(Work(index, batch, free, start, sent, end))
            arrival = sent + times.message
    return done


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a pipeline does in the long run.

    Args:
        seconds: Per batch.
        speed_up: Against one device that does the work of all stages.
        idle: For each stage, the share of time in which it waits.
    """

    seconds: float
    speed_up: float
    idle: tuple[float, ...]


def summarize(stages: Sequence[StageTimes], queue: int = 2) -> Summary:
    """The long run: the slowest stage, or the slowest link, sets the pace."""
    num_batches = 8 * (len(stages) + queue)
    done = simulate(stages, 2 * num_batches, queue)
    seconds = (done[-1][-1].end - done[-1][num_batches - 1].end) / num_batches
    total = sum(times.busy for times in stages)
    # Rounding may make it a little less than none.
    idle = tuple(max(0.0, 1 - times.busy / seconds) for times in stages)
    return Summary(seconds, total / seconds, idle)


def balanced_stages(costs: Sequence[float], num_stages: int) -> tuple[int, ...]:
    """Divide local modules among stages so that the slowest stage is fastest.

    Args:
        costs: Of each module, in order.
        num_stages: P, at most the number of modules.

    Returns:
        The number of modules of each stage. Among the best, the most even one, by the
        sum of squares.

    Raises:
        ValueError: if there are more stages than modules.
    """
    if not 1 <= num_stages <= len(costs):
        raise ValueError(
            f'{num_stages} stages need as many local modules, and there are '
            f'{len(costs)}.'
        )
    sums = [0.0]
    for cost in costs:
        sums.append(sums[-1] + cost)
    # best[i]: of the modules before i, with as many stages as rounds so far.
    best: list[_Division] = [_Division(0.0, 0.0, ())] + [_NONE] * len(costs)
    for _ in range(num_stages):
        best = [_best_end(best, sums, end) for end in range(len(sums))]
    return best[-1].sizes


class _Division(NamedTuple):
    """The first modules among some stages: the cost of the slowest, and of all."""

    slowest: float
    squares: float
    sizes: tuple[int, ...]


_NONE = _Division(float('inf'), float('inf'), ())


def _best_end(best: Sequence[_Division], sums: Sequence[float], end: int) -> _Division:
    """The best division of the modules before ``end``, with one stage more."""
    found = []
    for start in range(end):
        cost, before = sums[end] - sums[start], best[start]
        slowest = max(before.slowest, cost)
        sizes = (*before.sizes, end - start)
        found.append(_Division(slowest, before.squares + cost**2, sizes))
    return min(found, default=_NONE)
