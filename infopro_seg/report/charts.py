"""Curves as SVG that takes its colours from the page it is put into."""

import html
import io
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

#: Colours of the page, as CSS variables ``--s0`` and so on.
NUM_COLOURS = 8
# Stand-ins that are replaced by the colours of the page.
_TEXT, _LINE = '#000001', '#000002'
_SERIES = [f'#0000{16 + i:02x}' for i in range(NUM_COLOURS)]
_DASHES = ('solid', (0, (5, 2)), (0, (1, 1.5)))
# More values than these are drawn as means, too.
_MOST_POINTS = 200
# In inches of 72 units, which are pixels on a phone.
_WIDTH, _HEIGHT = 5.0, 2.9
_FONT_SIZE = 10.5
_SETTINGS: Any = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'infopro_seg',
    'font.size': _FONT_SIZE,
    'text.color': _TEXT,
    'axes.labelcolor': _TEXT,
    'axes.edgecolor': _LINE,
    'axes.linewidth': 0.8,
    'xtick.color': _LINE,
    'ytick.color': _LINE,
    'xtick.labelcolor': _TEXT,
    'ytick.labelcolor': _TEXT,
    'axes.grid': True,
    'grid.color': _LINE,
    'grid.linewidth': 0.6,
    'axes.axisbelow': True,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.formatter.limits': (-3, 5),
}


class Curve(NamedTuple):
    """A line of a chart.

    Args:
        label: Its name in the legend.
        iterations: Where there are values.
        values: One each; NaN leaves a gap.
        colour: Index of a colour of the page; beyond `NUM_COLOURS` they come again
            with dashes.
    """

    label: str
    iterations: Sequence[int]
    values: Sequence[float]
    colour: int

    @property
    def last(self) -> str:
        """Its last value."""
        return f'{self.values[-1]:.4g}'

    @property
    def css(self) -> str:
        """Its colour on the page."""
        return f'var(--s{self.colour % NUM_COLOURS})'

    @property
    def is_dashed(self) -> bool:
        """Whether its colour has come before."""
        return self.colour >= NUM_COLOURS


class Chart(NamedTuple):
    """A picture of curves with its text.

    Args:
        title: Above it.
        unit: Of the values.
        curves: At least one.
        svg: The picture.
    """

    title: str
    unit: str
    curves: tuple[Curve, ...]
    svg: str


def chart(title: str, unit: str, curves: Sequence[Curve], key: str) -> Chart:
    """Draw curves over iterations.

    Args:
        title: Above the picture.
        unit: Label of the values.
        curves: At least one.
        key: Tells its ids from those of other pictures on the page.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout='constrained')
        figure.patch.set_visible(False)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        for curve in curves:
            _draw(axes, curve)
        axes.set_xlabel('iteration')
        axes.set_ylabel(unit)
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=''))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        out = io.StringIO()
        figure.savefig(out, format='svg', metadata={'Date': None})
    svg = _for_page(out.getvalue(), key, _described(title, unit, curves))
    return Chart(title, unit, tuple(curves), svg)


def _draw(axes: Axes, curve: Curve) -> None:
    """A line; of many values their means, over the values themselves as a shade."""
    round_, colour = divmod(curve.colour, NUM_COLOURS)
    style: Any = {
        'color': _SERIES[colour],
        'linestyle': _DASHES[round_ % len(_DASHES)],
        'linewidth': 1.6,
    }
    if len(curve.values) > _MOST_POINTS:
        shade: Any = {'linewidth': 0.5, 'alpha': 0.25, 'color': _SERIES[colour]}
        axes.plot(curve.iterations, curve.values, **shade)
        axes.plot(*_means(curve), **style)
        return
    is_short = sum(map(math.isfinite, curve.values)) < 20
    marker = 'o' if is_short else None
    axes.plot(curve.iterations, curve.values, marker=marker, markersize=3.5, **style)


def _means(curve: Curve) -> tuple[list[float], list[float]]:
    """Means of neighbouring points, about a hundred; NaN if one is not finite."""
    points = np.array([curve.iterations, curve.values], dtype=float)
    groups = np.array_split(points, _MOST_POINTS // 2, axis=1)
    x, y = zip(*(group.mean(axis=1) for group in groups), strict=True)
    return list(x), list(y)


def _described(title: str, unit: str, curves: Sequence[Curve]) -> str:
    """The alternative text of a chart."""
    parts = [
        f'{curve.label} from {curve.values[0]:.4g} at iteration {curve.iterations[0]} '
        f'to {curve.last} at iteration {curve.iterations[-1]}'
        for curve in curves
    ]
    return f'{title} ({unit}): {"; ".join(parts)}.'


def _for_page(svg: str, key: str, alt: str) -> str:
    """The picture alone, in the colours and the font of the page."""
    svg = svg[svg.index('<svg') :]
    # A style that would hold for the whole page, and facts about the file.
    svg = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>', '', svg, flags=re.S)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', '', svg)
    svg = svg.replace('xlink:href', 'href')
    key = re.sub(r'\W', '-', key)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf'\g<1>{key}-', svg)
    svg = re.sub(r'font-family: [^;"]*;? ?', '', svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r'(\.\d)\d+', r'\1', path[0]), svg)
    svg = svg.replace(_TEXT, 'currentColor').replace(_LINE, 'var(--line)')
    for i, colour in enumerate(_SERIES):
        svg = svg.replace(colour, f'var(--s{i})')
    return re.sub(
        r'<svg[^>]*?(viewBox="[^"]*")[^>]*>',
        lambda match: f'<svg {match[1]} role="img" aria-label="{html.escape(alt)}">',
        svg,
        count=1,
    )
