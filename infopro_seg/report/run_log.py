"""The numbers of a run, from the JSON log that mmengine writes."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TIMES = ('time', 'data_time')


@dataclasses.dataclass(frozen=True)
class RunLog:
    """Logged values by name.

    Args:
        series: (iterations, values) of every name, in order of iterations. Of
            iterations that were done twice, because a run was resumed or started again,
            the later entries count. ``time`` and ``data_time`` are seconds per training
            step; ``validation.time`` and so on are seconds per validation image.
    """

    series: dict[str, tuple[list[int], list[float]]]

    def matching(self, *endings: str) -> dict[str, tuple[list[int], list[float]]]:
        """The series whose names end in one of these, sorted by name."""
        return {
            name: self.series[name]
            for name in sorted(self.series)
            if name.endswith(endings)
        }


def read_run(path: str | Path) -> RunLog:
    """Read a run with all its resumptions.

    Args:
        path: Folder of the run (searched for ``*/vis_data/scalars.json``), or such a
            file.

    Raises:
        FileNotFoundError: if there is no log.
        ValueError: if a line is damaged, unless it is the last of its file, which a
            kill may have cut off.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'no */vis_data/scalars.json in {path}; give the work dir of a run.'
        )
    points: dict[str, dict[int, float]] = {}
    for file in files:
        entries = list(_entries(file))
        if entries:
            _forget_from(points, entries[0]['step'])
        for entry in entries:
            _add(points, entry)
    series = {}
    for name, values in points.items():
        if values and name not in ('step', 'iter', 'epoch'):
            iterations = sorted(values)
            series[name] = (iterations, [values[i] for i in iterations])
    return RunLog(series)


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError('not a JSON object')
        except ValueError as error:
            if number == len(lines):
                continue
            raise ValueError(f'{file}, line {number}: {error}') from error
        if isinstance(entry.get('step'), int):
            yield entry


def _forget_from(points: dict[str, dict[int, float]], first: int) -> None:
    """Drop what an earlier attempt logged from the iteration on where this one begins.

    It was done again: from a checkpoint, or all of it from the start.
    """
    for values in points.values():
        for iteration in [i for i in values if i >= first]:
            del values[iteration]


def _add(points: dict[str, dict[int, float]], entry: dict[str, Any]) -> None:
    for name, value in entry.items():
        if name in _TIMES and 'iter' not in entry:
            name = f'validation.{name}'
        if isinstance(value, int | float):
            points.setdefault(name, {})[entry['step']] = value
