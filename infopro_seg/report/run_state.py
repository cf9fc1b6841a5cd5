"""Whether a run is running, finished or stopped, from what it logged last."""

import dataclasses
import datetime

from .run_log import RunLog
from .text_log import TextLog

# A run that logs nothing for this long, and for three times its longest pause so far,
# is taken to have stopped.
_QUIET = datetime.timedelta(minutes=5)
_GAPS = 3


@dataclasses.dataclass(frozen=True)
class RunState:
    """How far a run is.

    Args:
        name: ``finished``, ``running``, ``stopped``, or ``not started`` if no step has
            been logged and nothing is known of the time.
        sentence: The same with what it is concluded from.
        iteration: The last iteration known to be done.
        max_iterations: How many there are to be; None if not known.
    """

    name: str
    sentence: str
    iteration: int
    max_iterations: int | None


def state_of(
    log: RunLog,
    text: TextLog,
    now: datetime.datetime,
    *,
    max_iterations: int | None = None,
    validates: bool = False,
) -> RunState:
    """Judge a run by its logs.

    Args:
        log: Its numbers.
        text: Its text log.
        now: The time, by the clock of the machine that trained.
        max_iterations: As the config has it, if the log does not say.
        validates: Whether a validation is due at the end.
    """
    steps = log.series.get('loss', ([], []))[0]
    scored = log.series.get('mIoU', ([], []))[0]
    iteration = max([*steps[-1:], *scored[-1:], text.iteration])
    most = text.max_iterations or max_iterations
    is_done = most is not None and iteration >= most
    is_scored = not (validates or scored) or (scored and scored[-1] >= (most or 0))
    if is_done and is_scored:
        return RunState('finished', _finished(text), iteration, most)
    if text.last_line is None:
        sentence = 'There is no text log, so whether it still runs is not known.'
        name = 'stopped' if iteration else 'not started'
        return RunState(name, sentence, iteration, most)
    quiet = now - text.last_line
    is_running = quiet <= max(_QUIET, _GAPS * text.longest_gap)
    ago = f'the last line was logged at {text.last_line}, {_spelled(quiet)} ago'
    if is_running:
        doing = f'About {text.eta} left' if text.eta else 'No step is logged yet'
        if is_done:
            doing = 'Its last validation is not logged yet'
        return RunState('running', f'{doing}; {ago}.', iteration, most)
    missing = 'All iterations are done, the last validation is not: ' if is_done else ''
    sentence = f'{missing}{ago}.'
    return RunState('stopped', sentence[0].upper() + sentence[1:], iteration, most)


def _finished(text: TextLog) -> str:
    if text.last_line is None:
        return 'All iterations are done.'
    return f'All iterations are done; the last line was logged at {text.last_line}.'


def _spelled(duration: datetime.timedelta) -> str:
    seconds = max(0, round(duration.total_seconds()))
    for unit, size in (('day', 86400), ('hour', 3600), ('minute', 60)):
        if seconds >= 2 * size:
            return f'{seconds // size} {unit}s'
    return f'{seconds} seconds'
