"""One HTML page of one or several runs that needs no other file and no network."""

import base64
import datetime
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from . import run_numbers
from .charts import NUM_COLOURS
from .layers import LAYERS
from .run import Run, Samples
from .run_charts import (
    comparison_charts,
    loss_charts,
    pace_charts,
    score_charts,
)

# Widest picture that is put into the page, in pixels.
_MOST_PIXELS = 640
# Of WebP; above 100 nothing is lost.
_QUALITY, _LOSSLESS = 90, 101
# Kinds of pictures whose colours are classes.
_MAPS = ('label', 'prediction')


def render_page(runs: Sequence[Run], made_at: datetime.datetime, version: str) -> str:
    """Write the page.

    Args:
        runs: At least one, with different names; several are also compared.
        made_at: Time at which the state of the runs was judged.
        version: Of this package.

    Returns:
        HTML. Everything that comes from the runs is escaped.
    """
    environment = Environment(
        loader=PackageLoader('infopro_seg.report'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(num_colours=NUM_COLOURS, layers=LAYERS)
    names = [run.name for run in runs]
    page = environment.get_template('report.html').render(
        title=', '.join(names),
        runs=[_view(run, f'run{i}') for i, run in enumerate(runs)],
        comparison=run_numbers.comparison(runs) if len(runs) > 1 else [],
        class_comparison=run_numbers.class_comparison(runs) if len(runs) > 1 else [],
        comparison_charts=comparison_charts(runs) if len(runs) > 1 else [],
        made_at=f'{made_at:%Y-%m-%d %H:%M}',
        version=version,
    )
    return '\n'.join(line.rstrip() for line in page.splitlines() if line.strip()) + '\n'


def _view(run: Run, key: str) -> dict[str, Any]:
    """What the template shows of a run."""
    classes = run_numbers.class_iou(run)
    memory = run_numbers.memory_rows(run)
    most = run.state.max_iterations
    return {
        'key': key,
        'run': run,
        'iterations': run_numbers.iterations(run),
        'done_percent': 100 * min(1, run.state.iteration / most) if most else None,
        'tiles': run_numbers.tiles(run),
        'not_finite': run_numbers.not_finite(run.log),
        'errors': [m for m in run.text.messages if m.level != 'WARNING'],
        'warnings': [m for m in run.text.messages if m.level == 'WARNING'],
        'losses': loss_charts(run, key),
        'scores': score_charts(run, key),
        'classes': [(name, run_numbers.percent(v), v) for name, v in classes.items()],
        'memory': memory,
        'memory_columns': run_numbers.memory_columns(memory),
        'pace': pace_charts(run, key),
        'pictures': _pictures(run.samples),
        'legend': _legend(run.samples),
    }


def _pictures(samples: Samples | None) -> list[list[tuple[str, str]]]:
    """(kind, data URI) of the pictures of every image."""
    rows = [] if samples is None else samples.rows
    return [
        [
            (kind, _data_uri(picture, is_map=kind in _MAPS))
            for kind, picture in r.items()
        ]
        for r in rows
    ]


def _data_uri(picture: np.ndarray, *, is_map: bool) -> str:
    """A picture as text; colours of a map of classes stay as they are."""
    height, width = picture.shape[:2]
    factor = min(1, _MOST_PIXELS / width)
    if factor < 1:
        how = cv2.INTER_NEAREST if is_map else cv2.INTER_AREA
        size = round(width * factor), max(1, round(height * factor))
        picture = cv2.resize(picture, size, interpolation=how)
    quality = _LOSSLESS if is_map else _QUALITY
    _, data = cv2.imencode(
        '.webp', picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality]
    )
    return f'data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}'


def legend_of(samples: Samples) -> list[tuple[str, tuple[int, int, int]]]:
    """(class, (red, green, blue)) of the classes that are in the pictures."""
    maps = [row[k] for row in samples.rows for k in _MAPS if k in row]
    shown = {
        tuple(map(int, c)) for m in maps for c in np.unique(m.reshape(-1, 3), axis=0)
    }
    return [(name, colour) for name, colour in samples.classes if colour in shown]


def _legend(samples: Samples | None) -> list[tuple[str, str]]:
    """The legend with CSS colours."""
    if samples is None:
        return []
    return [(name, 'rgb({}, {}, {})'.format(*c)) for name, c in legend_of(samples)]
