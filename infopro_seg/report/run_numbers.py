"""The numbers of a run as the cells of a report."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..settings.plan import Plan, PlannedModule
from .layers import LAYERS, layers_of
from .run import Run
from .run_log import RunLog

#: Begins the names of IoUs of classes in the log.
_CLASS_PREFIX = 'IoU.'
# IoU in percent above which a comparison counts a class.
_LEARNT = 10


class Part(NamedTuple):
    """A piece of a bar.

    Args:
        label: What it is.
        size: Its length.
        percent: Its length as a share of the longest bar.
    """

    label: str
    size: str
    percent: float


class MemoryRow(NamedTuple):
    """A module, or end-to-end training, in the table of memory.

    Args:
        name: Of the module.
        module: Its index; None for end-to-end training.
        parts: Its predicted peak, layer by layer.
        peak: Predicted peak.
        share: Of end-to-end training.
        kept: Predicted to be kept for backward.
        measured_kept: The same, measured.
        measured_peak: Measured peak while it ran.
    """

    name: str
    module: int | None
    parts: tuple[Part, ...]
    peak: str
    share: str
    kept: str
    measured_kept: str
    measured_peak: str


_MEMORY_COLUMNS = (
    ('predicted peak', 'peak'),
    ('of end-to-end', 'share'),
    ('measured peak', 'measured_peak'),
    ('predicted kept', 'kept'),
    ('measured kept', 'measured_kept'),
)


def size(num_bytes: float | None) -> str:
    """An amount of memory to read."""
    if num_bytes is None:
        return ''
    if num_bytes < 2**30:
        return f'{num_bytes / 2**20:.0f} MiB'
    return f'{num_bytes / 2**30:.2f} GiB'


def last_score(log: RunLog) -> tuple[int, float] | None:
    """(iteration, mIoU in percent) of the last validation."""
    iterations, values = log.series.get('mIoU', ([], []))
    return (iterations[-1], values[-1]) if values else None


def best_score(log: RunLog) -> tuple[int, float] | None:
    """(iteration, mIoU in percent) of the best validation."""
    scores = zip(*log.series.get('mIoU', ([], [])), strict=True)
    finite = [(value, -i) for i, value in scores if math.isfinite(value)]
    return (-max(finite)[1], max(finite)[0]) if finite else None


def class_iou(run: Run) -> dict[str, float]:
    """IoU of every class at the last validation, in percent; empty if not logged."""
    logged = {
        name.removeprefix(_CLASS_PREFIX): values[-1]
        for name, (_, values) in run.log.series.items()
        if name.startswith(_CLASS_PREFIX)
    }
    return logged or run.text.class_iou


def step_seconds(log: RunLog) -> float | None:
    """Median time of a training step."""
    values = [v for v in log.series.get('time', ([], []))[1] if math.isfinite(v)]
    return statistics.median(values) if values else None


def measured_peak(log: RunLog) -> float | None:
    """Most bytes of tensors, as the log has it; None if it was not measured."""
    values = log.series.get('memory', ([], []))[1]
    return max(values) * 2**20 if values and max(values) > 0 else None


def not_finite(log: RunLog) -> list[tuple[str, int]]:
    """(name, iteration) where losses were first not finite."""
    found = []
    for name, (iterations, values) in log.series.items():
        if 'loss' in name.rpartition('.')[2]:
            bad = [
                i
                for i, value in zip(iterations, values, strict=True)
                if not math.isfinite(value)
            ]
            found += [(name, bad[0])] if bad else []
    return found


def tiles(run: Run) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the most important numbers."""
    return [_score_tile(run), *_memory_tiles(run), _time_tile(run)]


def memory_rows(run: Run) -> list[MemoryRow]:
    """Predicted and measured memory by module; first end-to-end training."""
    plan = run.plan
    if plan is None:
        count = 0 if run.network is None else len(run.network.modules)
        names = [f'local_{i}' for i in range(count)]
        rows = [_row(run, name, i, None, 0) for i, name in enumerate(names)]
        return [row for row in rows if row.measured_kept or row.measured_peak]
    longest = max([plan.end_to_end_peak_bytes, *(m.peak_bytes for m in plan.modules)])
    rows = [_row(run, m.name, i, m, longest) for i, m in enumerate(plan.modules)]
    if plan.splits and plan.end_to_end is not None:
        rows.insert(0, _row(run, 'end-to-end', None, plan.end_to_end, longest))
    return rows


def memory_columns(rows: Sequence[MemoryRow]) -> list[tuple[str, str]]:
    """(title, field of a row) of the numbers that there are."""
    return [
        (title, field)
        for title, field in _MEMORY_COLUMNS
        if any(getattr(row, field) for row in rows)
    ]


def comparison(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(label, one cell a run) of what runs are compared by."""
    rows = [
        ('state', [run.state.name for run in runs]),
        ('iterations', [iterations(run) for run in runs]),
        ('local modules', [_num_modules(run) for run in runs]),
        ('last mIoU (%)', [_score(last_score(run.log)) for run in runs]),
        ('best mIoU (%)', [_score(best_score(run.log)) for run in runs]),
        (f'classes above {_LEARNT} % IoU', [_learnt(class_iou(run)) for run in runs]),
        ('measured peak memory', [size(measured_peak(run.log)) for run in runs]),
        ('predicted peak memory', [_predicted(run.plan) for run in runs]),
        ('of end-to-end training', [_share(run.plan) for run in runs]),
        ('time of a step', [_seconds(step_seconds(run.log)) for run in runs]),
        ('predicted FLOPs (end-to-end: 1)', [_work(run.plan) for run in runs]),
    ]
    return [(label, cells) for label, cells in rows if any(cells)]


def class_comparison(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(class, one IoU a run)."""
    scores = [class_iou(run) for run in runs]
    names = list(dict.fromkeys(name for own in scores for name in own))
    return [(name, [percent(own.get(name)) for own in scores]) for name in names]


def percent(value: float | None) -> str:
    """An IoU to read."""
    return '' if value is None else f'{value:.2f}'


def iterations(run: Run) -> str:
    """How many iterations of how many are done."""
    most = run.state.max_iterations
    return f'{run.state.iteration}' + (f' of {most}' if most is not None else '')


def _score_tile(run: Run) -> tuple[str, str, str]:
    last, best = last_score(run.log), best_score(run.log)
    if last is None:
        return 'mIoU', 'none yet', 'no validation is logged'
    remark = f'at iteration {last[0]}'
    if best is not None and best[0] != last[0]:
        remark += f'; best {best[1]:.2f} % at {best[0]}'
    return 'mIoU', f'{last[1]:.2f} %', remark


def _memory_tiles(run: Run) -> list[tuple[str, str, str]]:
    found = []
    measured = measured_peak(run.log)
    if measured is not None:
        found.append(('measured peak memory', size(measured), 'all tensors'))
    plan = run.plan
    if plan is not None:
        remark = f'end-to-end: {size(plan.end_to_end_peak_bytes)}'
        if plan.splits:
            remark = (
                f'{_share(plan)} of end-to-end ({size(plan.end_to_end_peak_bytes)})'
            )
        found.append(('predicted peak memory', _predicted(plan), remark))
    return found


def _time_tile(run: Run) -> tuple[str, str, str]:
    seconds = step_seconds(run.log)
    data = run.log.series.get('data_time', ([], []))[1]
    if seconds is None:
        return 'time of a step', 'none yet', 'no step is logged'
    remark = 'median'
    if data and math.isfinite(statistics.median(data)):
        remark += f'; {statistics.median(data):.3g} s of it waiting for data'
    return 'time of a step', _seconds(seconds), remark


def _row(
    run: Run, name: str, index: int | None, planned: PlannedModule | None, longest: int
) -> MemoryRow:
    kept = None if planned is None else planned.activation_bytes + planned.head_bytes
    own = 'local_0' if index is None else name
    saved = run.log.series.get(f'{own}.saved_gib', ([], []))[1]
    peaks = run.log.series.get(f'{own}.peak_allocated_gib', ([], []))[1]
    return MemoryRow(
        name=name,
        module=index,
        parts=() if planned is None else _parts(planned, longest),
        peak='' if planned is None else size(planned.peak_bytes),
        share='' if planned is None else f'{100 * planned.share:.0f} %',
        kept=size(kept),
        measured_kept=size(saved[-1] * 2**30) if saved and index is not None else '',
        measured_peak=size(max(peaks) * 2**30) if peaks and index is not None else '',
    )


def _parts(module: PlannedModule, longest: int) -> tuple[Part, ...]:
    layers = zip(LAYERS, layers_of(module), strict=True)
    return tuple(Part(label, size(n), 100 * n / longest) for label, n in layers)


def _predicted(plan: Plan | None) -> str:
    return '' if plan is None else size(plan.predicted_peak_bytes)


def _share(plan: Plan | None) -> str:
    if plan is None:
        return ''
    return f'{100 * plan.predicted_peak_bytes / plan.end_to_end_peak_bytes:.0f} %'


def _work(plan: Plan | None) -> str:
    return '' if plan is None else f'{plan.flops_ratio:.2f}'


def _learnt(scores: Mapping[str, float]) -> str:
    """Of the classes that are labelled or predicted, how many have been learnt."""
    known = [score for score in scores.values() if math.isfinite(score)]
    return f'{sum(s > _LEARNT for s in known)} of {len(known)}' if known else ''


def _score(score: tuple[int, float] | None) -> str:
    return '' if score is None else f'{score[1]:.2f} (at {score[0]})'


def _seconds(seconds: float | None) -> str:
    return '' if seconds is None else f'{seconds:.3g} s'


def _num_modules(run: Run) -> str:
    if run.network is None:
        return ''
    return str(len(run.network.modules))
