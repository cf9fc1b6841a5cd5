"""Draws the methods of a study; nothing is computed here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

Entry = Mapping[str, Any]
_MIB = 2**20
_MARKERS = 'osD^vPX*<'


def plot_curves(entries: Sequence[Entry], path: Path, title: str) -> None:
    """Draw mIoU over iterations: the mean over seeds, one standard deviation shaded.

    If methods are not trained equally long, it is drawn over the part that is done.

    Args:
        entries: Of `infopro_seg.study.summary.summarised`.
        path: Picture file to write.
        title: Above the axes.
    """
    figure, axes = plt.subplots(figsize=(7.6, 4.4), layout='constrained')
    is_part = len({entry['iterations'] for entry in entries}) > 1
    for i, entry in enumerate(entries):
        curve = entry['curve']
        scale = 100 / entry['iterations'] if is_part else 1
        places = [scale * iteration for iteration in curve['iterations']]
        color, marker = _style(i)
        axes.plot(
            *(places, curve['mean']),
            label=_label(entry),
            color=color,
            marker=marker,
            markersize=4,
            linewidth=1.2,
        )
        if None not in curve['deviation']:
            bands = list(zip(curve['mean'], curve['deviation'], strict=True))
            axes.fill_between(
                places,
                [mean - deviation for mean, deviation in bands],
                [mean + deviation for mean, deviation in bands],
                color=color,
                alpha=0.12,
                linewidth=0,
            )
    axes.set_xlabel('part of the training (%)' if is_part else 'iteration')
    _finish(axes, f'{title}\nmean over seeds and one standard deviation')
    axes.legend(fontsize=7, frameon=False, loc='center left', bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_frontier(entries: Sequence[Entry], path: Path, title: str) -> None:
    """Draw mIoU against predicted memory and against the FLOPs of training.

    Args:
        entries: Of `infopro_seg.study.summary.summarised`.
        path: Picture file to write.
        title: Above the axes.
    """
    figure, (memory, work) = plt.subplots(
        1, 2, figsize=(10.4, 4.4), layout='constrained', sharey=True
    )
    for i, entry in enumerate(entries):
        num_bytes = entry['predicted_peak_bytes']
        if num_bytes is not None:
            _point(memory, num_bytes / _MIB, entry, i)
        if entry['training_flops'] is not None:
            _point(work, entry['training_flops'] / 1e12, entry, i)
    for axes in (memory, work):
        if axes.containers:
            axes.set_xlim(0, 1.06 * axes.dataLim.x1)
    memory.set_xlabel('predicted peak memory of a training step (MiB)')
    work.set_xlabel('work of all training steps (TFLOPs, counted)')
    for axes in (memory, work):
        _finish(axes, '')
    work.set_ylabel('')
    figure.suptitle(f'{title}\nmean over seeds and one standard deviation', fontsize=9)
    handles, labels = memory.get_legend_handles_labels()
    work.legend(
        handles,
        labels,
        fontsize=7,
        frameon=False,
        loc='center left',
        bbox_to_anchor=(1, 0.5),
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_differences(
    entries: Sequence[Entry], path: Path, title: str, baseline: str
) -> None:
    """Draw the paired differences to the baseline with their 95% intervals.

    Args:
        entries: Of `infopro_seg.study.summary.summarised`.
        path: Picture file to write.
        title: Above the axes.
        baseline: Name of the method at 0.
    """
    shown = [entry for entry in entries if entry['difference'] is not None]
    figure, axes = plt.subplots(
        figsize=(6.8, 1.6 + 0.32 * len(shown)), layout='constrained'
    )
    for y, entry in enumerate(shown):
        difference = entry['difference']
        if difference['low'] is not None:
            axes.hlines(y, difference['low'], difference['high'], color='#3b7dd8')
        axes.plot(difference['mean'], y, 'o', color='#1f3d66', markersize=5)
    axes.axvline(0, color='#4a5560', linewidth=0.8)
    axes.set_yticks(range(len(shown)), [_label(entry) for entry in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel(f'mIoU less that of {baseline}, same seeds (points)')
    axes.set_title(f'{title}\nmean and 95% interval', fontsize=9)
    axes.grid(axis='x', alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _point(axes: Axes, x: float, entry: Entry, index: int) -> None:
    color, marker = _style(index)
    axes.errorbar(
        x,
        entry['miou']['mean'],
        yerr=entry['miou']['deviation'],
        fmt=marker,
        color=color,
        label=_label(entry),
        markersize=6,
        capsize=2,
        linewidth=1,
    )


def _style(index: int) -> tuple[Any, str]:
    # Colours repeat after 10, markers after 9: no two of 90 are alike.
    return plt.get_cmap('tab10')(index % 10), _MARKERS[index % len(_MARKERS)]


def _label(entry: Entry) -> str:
    return f'{entry["name"]} (n={len(entry["seeds"])})'


def _finish(axes: Axes, title: str) -> None:
    axes.set_ylabel('mIoU (%)')
    if title:
        axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
