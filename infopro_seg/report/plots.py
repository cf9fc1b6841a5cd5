"""Draws plans and benchmarks; nothing is computed here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from ..benchmark.front import pareto_front  # noqa: E402
from ..settings.plan import Plan  # noqa: E402
from .layers import LAYERS, layers_of  # noqa: E402

_GIB = 2**30
_KINDS = {
    'end_to_end': ('end-to-end', '#4a5560', 's'),
    'checkpointing': ('end-to-end, checkpointing', '#b03030', 'D'),
    'selective': ('end-to-end, selective checkpointing', '#d9837a', 'd'),
    'compile': ('end-to-end, compiled with a memory budget', '#7b5ea7', 'P'),
    'save_on_cpu': ('end-to-end, activations on the host', '#7d8b3f', 'X'),
    'exact': ('exact, by segments', '#2f9e8f', 'v'),
    'local': ('local modules', '#3b7dd8', 'o'),
    'local+recompute': ('local modules, recompute', '#e3a23c', '^'),
}
_PLAN = ('plans for GPUs', '#1f3d66', '*')
_LAYER_COLOURS = ('#9aa5b1', '#3b7dd8', '#e3a23c', '#c7d7ee')


def plot_plan(plan: Plan, path: str | Path) -> None:
    """Draw the memory of end-to-end training against that of the local modules.

    Args:
        plan: From `Plan.load` or the planner.
        path: Picture file to write.
    """
    bars = [(module.name, module) for module in plan.modules]
    if plan.end_to_end is not None:
        bars.insert(0, ('end-to-end', plan.end_to_end))
    figure, axes = plt.subplots(
        figsize=(2.0 + 0.9 * len(bars), 4.2), layout='constrained'
    )
    bottom = [0.0] * len(bars)
    names = [name for name, _ in bars]
    parts = [layers_of(module) for _, module in bars]
    for layer, (label, color) in enumerate(zip(LAYERS, _LAYER_COLOURS, strict=True)):
        heights = [part[layer] / _GIB for part in parts]
        axes.bar(names, heights, bottom=bottom, label=label, color=color)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    if plan.gpu_memory_bytes is not None:
        budget = (plan.gpu_memory_bytes - plan.reserve_bytes) / _GIB
        axes.axhline(budget, color='#b03030', linestyle='--', linewidth=1)
        axes.annotate(
            f'{plan.gpu_memory_bytes / _GIB:g} GiB GPU less the reserve',
            (len(bars) - 0.6, budget),
            ha='right',
            va='bottom',
            fontsize=8,
            color='#b03030',
        )
    height, width = plan.crop_size
    axes.set_title(
        f'{plan.batch_size} images of {height}x{width}, {plan.amp_dtype or "float32"}',
        fontsize=10,
    )
    axes.set_ylabel('predicted peak memory (GiB)')
    axes.tick_params(axis='x', labelrotation=30)
    _save(figure, axes, path)


def plot_benchmark(result: Mapping[str, Any], path: str | Path) -> None:
    """Draw memory against time, one point per method, and the Pareto front.

    Args:
        result: What ``tools/benchmark.py --json`` wrote.
        path: Picture file to write.
    """
    entries = [m for m in result['methods'] if 'time_ratio' in m and 'peak_ratio' in m]
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout='constrained')
    styles = [_KINDS.get(entry['kind'], _PLAN) for entry in entries]
    # One entry of the legend per style: plans share theirs.
    for style in dict.fromkeys(styles):
        _draw_methods(
            axes,
            [e for e, own in zip(entries, styles, strict=True) if own == style],
            style,
        )
    front = pareto_front(
        [(100 * entry['peak_ratio'], entry['time_ratio']) for entry in entries]
    )
    axes.plot(*zip(*front, strict=True), color='#9aa5b1', linewidth=1, zorder=0)
    axes.axhline(1, color='#c9ced4', linewidth=0.8, linestyle=':', zorder=0)
    height, width = result['crop_size']
    axes.set_title(
        f'{result["network"]}, {result["batch_size"]} images of {height}x{width}, '
        f'{result["precision"]}, {result["device"]}\n'
        f'medians and quartiles of {result["steps"]} steps in turns',
        fontsize=9,
    )
    axes.set_xlabel('peak memory of a training step (% of end-to-end)')
    axes.set_ylabel('time of a training step (end-to-end = 1)')
    axes.set_xlim(left=0)
    _save(figure, axes, path)


def _draw_methods(
    axes: Axes, entries: Sequence[Mapping[str, Any]], style: tuple[str, str, str]
) -> None:
    """Points with error bars from quartile to quartile, and what tells them apart."""
    label, color, marker = style
    peaks = [100 * entry['peak_ratio'] for entry in entries]
    times = [entry['time_ratio'] for entry in entries]
    low, high = zip(*(entry['time_ratio_quartiles'] for entry in entries), strict=True)
    axes.errorbar(
        peaks,
        times,
        yerr=[
            [t - q for t, q in zip(times, low, strict=True)],
            [q - t for t, q in zip(times, high, strict=True)],
        ],
        fmt=marker,
        color=color,
        label=label,
        markersize=7,
        capsize=2,
        linewidth=1,
    )
    for peak, time, entry in zip(peaks, times, entries, strict=True):
        if remark := _remark(entry):
            axes.annotate(
                remark,
                (peak, time),
                textcoords='offset points',
                xytext=(7, 5),
                fontsize=8,
            )


def _save(figure: Figure, axes: Axes, path: str | Path) -> None:
    axes.legend(fontsize=8, frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _remark(entry: Mapping[str, Any]) -> str:
    """What a name says beyond the kind: K, or the share that may be kept."""
    if entry['kind'] not in _KINDS:
        return entry['name'].removeprefix('plan for ')
    return entry['name'].removeprefix(entry['kind']).strip()
