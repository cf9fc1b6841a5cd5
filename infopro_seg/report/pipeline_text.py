"""A planned pipeline as text."""

from ..pipeline.schedule import StageTimes, Summary, summarize
from ..planner.pipeline import PipelinePlan
from ..settings.sizes import gib
from .tables import text_table

_HEADER = ('stage', 'units', 'work (%)', 'idle (%)', 'memory (GiB)', 'sends (MiB)')


def stage_times(
    plan: PipelinePlan, link: float, speed: float
) -> tuple[StageTimes, ...]:
    """What each stage takes, if work and messages cost what they are told to.

    Args:
        plan: The stages.
        link: Bytes per second from one device to the next.
        speed: FLOPs per second of one device.
    """
    return tuple(
        StageTimes(
            to_wall=stage.forward_flops / speed,
            after_wall=(stage.flops - stage.forward_flops) / speed,
            message=stage.message_bytes / link,
        )
        for stage in plan.stages
    )


def pipeline_report(plan: PipelinePlan, batch: int, link: float, speed: float) -> str:
    """The stages of a pipeline, and data parallel training beside it.

    Args:
        plan: The stages.
        batch: Images per step.
        link: Bytes per second from one device to the next.
        speed: FLOPs per second of one device.
    """
    times = stage_times(plan, link, speed)
    summary = summarize(times)
    total = sum(stage.flops for stage in plan.stages)
    rows: list[tuple[str, ...]] = [_HEADER]
    for index, stage in enumerate(plan.stages):
        rows.append(
            (
                str(index),
                ' ... '.join(dict.fromkeys(stage.units)),
                f'{100 * stage.flops / total:.1f}',
                f'{100 * summary.idle[index]:.1f}',
                f'{stage.peak_bytes / 2**30:.2f}',
                f'{stage.message_bytes / 2**20:.0f}',
            )
        )
    num = len(plan.stages)
    lines = [
        text_table(rows, left=2),
        '',
        f'splits: {", ".join(plan.splits)}',
        f'recompute: {", ".join(plan.recompute) or "nothing"}',
        '',
        text_table(_comparison(plan, summary, total / speed, link, batch), left=1),
        '',
        f'assumed: {speed / 1e12:g} TFLOP/s a device, {link / 1e9:g} GB/s a link, '
        'messages beside the work, gradients after it',
        f'to train: tools/dist_train.sh CONFIG {num} --local pipeline={num} '
        f"splits='[{','.join(plan.splits)}]'",
    ]
    return '\n'.join(lines)


def _comparison(
    plan: PipelinePlan, summary: Summary, seconds: float, link: float, batch: int
) -> list[tuple[str, ...]]:
    num = len(plan.stages)
    peak = max(stage.peak_bytes for stage in plan.stages)
    sent = max(stage.message_bytes for stage in plan.stages)
    rows: list[tuple[str, ...]] = [
        ('', 'speed-up', 'memory of a device', 'sent per step', 'images per device'),
        ('one device', '1.00', '', '', str(batch)),
        (
            f'pipeline of {num}',
            f'{summary.speed_up:.2f}',
            gib(peak),
            _mib(sent),
            str(batch),
        ),
    ]
    if plan.parallel_peak_bytes is not None:
        parallel = seconds / num + plan.gradient_bytes / link
        rows.append(
            (
                f'data parallel on {num}',
                f'{seconds / parallel:.2f}',
                gib(plan.parallel_peak_bytes),
                _mib(plan.gradient_bytes),
                str(batch // num),
            )
        )
    return rows


def _mib(num_bytes: float) -> str:
    return f'{num_bytes / 2**20:.0f} MiB'
