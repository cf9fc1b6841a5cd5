"""Pictures side by side in one file."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

_INCHES = 3.0
# Of the legend, below each column of pictures.
_NAMES_PER_COLUMN = 2
# Of the caption.
_LETTERS_PER_INCH = 12


def save_grid(
    rows: Sequence[Mapping[str, np.ndarray]],
    columns: Sequence[str],
    path: str | Path,
    *,
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
    caption: str = '',
) -> None:
    """Save pictures as a table: one row per image, one column per kind, named above it.

    Args:
        rows: Pictures by kind, (H, W, 3) uint8 RGB of one size.
        columns: Which kinds, from left to right.
        path: PNG to write.
        legend: (name, (red, green, blue)) of colours, shown below the pictures.
        caption: A sentence below all.
    """
    height, width = rows[0][columns[0]].shape[:2]
    row_inches = _INCHES * height / width
    figure = Figure(
        figsize=(_INCHES * len(columns), row_inches * len(rows) + 0.4),
        layout='constrained',
    )
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for column, ax in zip(columns, line, strict=True):
            ax.imshow(row[column], interpolation='nearest')
            ax.set_axis_off()
    for column, ax in zip(columns, axes[0], strict=True):
        ax.set_title(column, fontsize=10)
    if legend:
        handles = [
            Patch(color=(r / 255, g / 255, b / 255), label=name)
            for name, (r, g, b) in legend
        ]
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=_NAMES_PER_COLUMN * len(columns),
            frameon=False,
            fontsize=9,
        )
    if caption:
        width_inches = _INCHES * len(columns)
        text = textwrap.fill(caption, round(_LETTERS_PER_INCH * width_inches))
        figure.supxlabel(text, fontsize=10)
    figure.savefig(path, dpi=max(100, width / _INCHES))
