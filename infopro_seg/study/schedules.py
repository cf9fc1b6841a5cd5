"""Learning rates of a run that is shorter or longer than its config says."""

from typing import Any

from ..settings.config import type_name

# Arguments of schedules that count iterations.
_COUNTS = ('begin', 'end', 'T_max', 'total_iters', 'total_steps', 'step_size')
_LISTS = ('milestones', 'periods')


def stretch_schedules(schedules: Any, scale: float) -> None:
    """Let schedules by iterations last as long as the run, in place.

    Args:
        schedules: One, several, or those of several optimizers by name.
        scale: Iterations of the run by those of the config.
    """
    if isinstance(schedules, list | tuple):
        for schedule in schedules:
            stretch_schedules(schedule, scale)
    elif isinstance(schedules, dict) and 'type' not in schedules:
        stretch_schedules(list(schedules.values()), scale)
    elif isinstance(schedules, dict) and not schedules.get('by_epoch', True):
        _stretch_one(schedules, scale)


def _stretch_one(schedule: dict[str, Any], scale: float) -> None:
    def stretched(number: int) -> int:
        # What took some iterations takes one at least.
        return max(round(number * scale), min(number, 1))

    for key in _COUNTS:
        if isinstance(schedule.get(key), int):
            schedule[key] = stretched(schedule[key])
    if isinstance(schedule.get('end'), int):
        schedule['end'] = max(schedule['end'], schedule.get('begin', 0) + 1)
    for key in _LISTS:
        if key in schedule:
            schedule[key] = [stretched(number) for number in schedule[key]]
    if type_name(schedule).startswith('Exponential'):
        # A factor for each iteration.
        schedule['gamma'] **= 1 / scale
