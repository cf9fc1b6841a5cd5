"""Draws the dial: what is kept, what runs again and where gradients go."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

_MODULES = ('module 0', 'module 1', 'module 2', 'module 3\nand decode head')
_KEPT, _AGAIN, _FREE = '#3b7dd8', '#e3a23c', '#dde3ea'
_GRADIENT, _WALL, _TEXT = '#b03030', '#1f2933', '#1f2933'
_WIDTH, _GAP = 2.0, 0.8
_KINDS = (
    (
        'a local step: end_to_end_every=None, and n - 1 of n steps',
        'Each module is differentiated as soon as it has run; then its maps go.',
    ),
    (
        'an exact step: end_to_end_every=1, and every n-th step',
        'The last segment is differentiated at once. The others run again, one by one, '
        'from the last to the first.',
    ),
)


def draw_dial(path: str | Path) -> None:
    """Draw a local step above an exact one, for four modules.

    Args:
        path: Picture file to write.
    """
    figure, rows = plt.subplots(2, 1, figsize=(9, 6.4), layout='constrained')
    for axes, (title, sentence), is_exact in zip(
        rows, _KINDS, (False, True), strict=True
    ):
        axes.set_title(title, loc='left', fontsize=11, fontweight='bold')
        axes.text(0, 2.25, sentence, fontsize=9, color=_TEXT)
        _draw_step(axes, is_exact=is_exact)
        axes.set_xlim(-1.2, len(_MODULES) * (_WIDTH + _GAP))
        axes.set_ylim(-1.5, 2.6)
        axes.axis('off')
    _draw_legend(rows[1])
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_step(axes: Axes, *, is_exact: bool) -> None:
    axes.text(-1.15, 0.5, 'image', va='center', fontsize=9, color=_TEXT)
    last = len(_MODULES) - 1
    for i, name in enumerate(_MODULES):
        left = i * (_WIDTH + _GAP)
        color = _AGAIN if is_exact and i < last else _KEPT
        axes.add_patch(Rectangle((left, 0), _WIDTH, 1, color=color))
        axes.text(left + _WIDTH / 2, 0.5, name, ha='center', va='center', color='white')
        if i < last:
            wall = left + _WIDTH + _GAP / 2
            style = ':' if is_exact else '-'
            axes.plot([wall, wall], [-0.35, 1.35], style, color=_WALL, linewidth=3)
            label = 'map kept' if is_exact else 'wall'
            axes.text(wall, 1.5, label, ha='center', fontsize=8, color=_TEXT)
            _arrow(axes, (left + _WIDTH, 0.75), (left + _WIDTH + _GAP, 0.75), _TEXT)
        if i < last and not is_exact:
            axes.add_patch(Rectangle((left + 0.45, 1.45), 1.1, 0.5, color=_FREE))
            axes.text(
                left + 1.0, 1.7, 'local head', ha='center', va='center', fontsize=8
            )
            _arrow(axes, (left + 1.0, 1.0), (left + 1.0, 1.45), _TEXT)
        start = left + _WIDTH - 0.1
        end = left - (_GAP + 0.1 if is_exact and i else -0.1)
        _arrow(axes, (start, -0.3), (end, -0.3), _GRADIENT)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str
) -> None:
    style = {'arrowstyle': '->', 'color': color, 'linewidth': 1.8}
    axes.annotate('', xy=end, xytext=start, arrowprops=style)


def _draw_legend(axes: Axes) -> None:
    boxes = [
        Rectangle((0, 0), 1, 1, color=_KEPT),
        Rectangle((0, 0), 1, 1, color=_AGAIN),
        Line2D([], [], color=_GRADIENT, linewidth=1.8),
    ]
    names = [
        'keeps its maps until its backward pass',
        'keeps its input alone and runs again',
        'gradient',
    ]
    axes.legend(boxes, names, loc='lower center', ncols=3, frameon=False, fontsize=9)
