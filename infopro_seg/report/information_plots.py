"""Draws information over depth; nothing is computed here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

Entry = Mapping[str, Any]
_MARKERS = 'osD^vPX*<'
# Key, label of the axis.
_PANELS = (
    ('image_information_bits', 'I(h, x) >=\n(bits per pixel, under the model)'),
    ('label_information_bits', 'I(h, y) >=\n(bits per labelled pixel)'),
    ('reconstruction_bce', 'reconstruction error\n(BCE, nats per value)'),
    ('miou', 'mIoU of the probe (%)'),
)


def plot_information(entries: Sequence[Entry], path: str | Path) -> None:
    """Draw what probes found over the depth of the network, one line per network.

    Args:
        entries: Networks with ``name`` and ``boundaries``.
        path: Picture file to write.
    """
    figure, axes = plt.subplots(2, 2, figsize=(10.4, 6.8), layout='constrained')
    for axis, (key, label) in zip(axes.flat, _PANELS, strict=True):
        for i, entry in enumerate(entries):
            axis.plot(
                [boundary['unit_number'] for boundary in entry['boundaries']],
                [boundary[key] for boundary in entry['boundaries']],
                label=entry['name'],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=4,
                linewidth=1.2,
            )
        axis.set_ylabel(label, fontsize=8)
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
        _name_units(axis, entries)
    axes[0, 1].legend(fontsize=7, frameon=False)
    figure.suptitle('Probes of frozen networks, on validation images', fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _name_units(axis: Axes, entries: Sequence[Entry]) -> None:
    """Names where all networks have the same ones, else numbers."""
    named = {
        tuple((b['unit_number'], b['unit']) for b in entry['boundaries'])
        for entry in entries
    }
    if len(named) == 1:
        numbers, units = zip(*named.pop(), strict=True)
        axis.set_xticks(numbers, units, rotation=40, ha='right', fontsize=7)
    else:
        axis.set_xlabel('units run')
