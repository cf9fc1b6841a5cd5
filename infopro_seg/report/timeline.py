"""The recorded schedule of a pipeline: a picture, and a trace for a browser."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

#: In the order of the legend.
KINDS = {
    'forward and losses': '#4878a8',
    'backward': '#b0413e',
    'last backward and step': '#d08770',
    'send': '#7a9a5b',
    'wait': '#dddddd',
}


class Span(NamedTuple):
    """What a process did for a while.

    Args:
        iteration: Of the training loop.
        what: As `TimelineHook` writes it.
        start: Seconds of the machine's clock.
        end: Seconds.
    """

    iteration: int
    what: str
    start: float
    end: float


def read_timelines(work_dir: Path) -> list[list[Span]]:
    """The spans of all processes of a run, from the first stage to the last.

    Raises:
        FileNotFoundError: if the run has recorded none.
    """
    paths = sorted(work_dir.glob('timeline_*.json'), key=_rank, reverse=True)
    if not paths:
        raise FileNotFoundError(
            f'{work_dir} has no timeline_*.json: train with '
            "custom_hooks=[..., dict(type='TimelineHook')]."
        )
    return [[Span(*span) for span in json.loads(p.read_text())] for p in paths]


def kind_of(what: str) -> str:
    """The entry of the legend that a span belongs to."""
    if what in ('wait', 'send'):
        return what
    if what == 'step':
        return 'last backward and step'
    return 'backward' if what.endswith(' backward') else 'forward and losses'


def chrome_trace(timelines: Sequence[Sequence[Span]]) -> str:
    """The spans as JSON for chrome://tracing and ui.perfetto.dev."""
    events = [
        {
            'name': f'{span.what} ({span.iteration})',
            'cat': kind_of(span.what),
            'ph': 'X',
            'ts': 1e6 * span.start,
            'dur': 1e6 * (span.end - span.start),
            'pid': 0,
            'tid': stage,
        }
        for stage, spans in enumerate(timelines)
        for span in spans
        if span.what != 'iteration'
    ]
    names = [
        {
            'name': 'thread_name',
            'ph': 'M',
            'pid': 0,
            'tid': i,
            'args': {'name': f'stage {i}'},
        }
        for i in range(len(timelines))
    ]
    return json.dumps({'traceEvents': names + events})


def draw_timelines(timelines: Sequence[Sequence[Span]], path: Path) -> None:
    """Draw one row for each stage, with the number of the iteration on its forward.

    Args:
        timelines: From `read_timelines`.
        path: Picture to write.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    begin = min(span.start for spans in timelines for span in spans)
    figure, axes = plt.subplots(figsize=(10, 0.8 * len(timelines) + 1.2))
    for stage, spans in enumerate(timelines):
        # What is inside of another span is drawn over it.
        for span in sorted(spans, key=lambda s: s.start - s.end):
            if span.what == 'iteration':
                continue
            kind = kind_of(span.what)
            width = span.end - span.start
            axes.barh(stage, width, 0.7, span.start - begin, color=KINDS[kind])
            if kind == 'forward and losses':
                middle = span.start - begin + width / 2
                text = str(span.iteration)
                axes.text(middle, stage, text, ha='center', va='center', color='white')
    axes.set_yticks(
        range(len(timelines)), [f'stage {i}' for i in range(len(timelines))]
    )
    axes.invert_yaxis()
    axes.set_xlabel('seconds')
    axes.spines[['top', 'right']].set_visible(False)
    handles = [Patch(color=color, label=kind) for kind, color in KINDS.items()]
    figure.legend(handles=handles, ncols=len(KINDS), loc='upper center', frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _rank(path: Path) -> int:
    return int(path.stem.rpartition('_')[2])
