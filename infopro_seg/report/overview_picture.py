"""Draws what local modules save and what they cost, from measured numbers."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

_END_TO_END, _LOCAL = '#4a5560', '#3b7dd8'
# Kinds of a benchmark, as the picture calls them.
_KINDS = {
    'end_to_end': 'end-to-end',
    'checkpointing': 'end-to-end, checkpointing',
    'local': 'local modules',
}
_LINE_LENGTH = 62


def draw_overview(
    benchmark: Mapping[str, Any], study: Mapping[str, Any], path: str | Path
) -> None:
    """Draw measured memory beside measured accuracy.

    Args:
        benchmark: What ``tools/benchmark.py --json`` wrote.
        study: What ``tools/study.py`` wrote as ``NAME.json``. Shown are the rows of
            most seeds; of those that differ in their options alone, such as the
            learning rate, and need the same memory, the best one.
        path: Picture file to write.

    Raises:
        ValueError: if the benchmark has measured no memory, or the study has no
            finished run.
    """
    measured = [
        method
        for method in benchmark['methods']
        if method['kind'] in _KINDS and method['peak_bytes']
    ]
    scored = best_methods(study['methods'])
    if not measured or not scored:
        raise ValueError(
            'the picture needs measured memory and a finished run: give a benchmark '
            'with --steps above 0, and the results of a study.'
        )
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout='constrained')
    num_bars = max(len(measured), len(scored))
    _draw_memory(left, benchmark, measured, num_bars)
    _draw_accuracy(right, study['facts'], scored, num_bars)
    figure.savefig(path, dpi=150, bbox_inches='tight')
    plt.close(figure)


def best_methods(methods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of methods with the same ``local`` setting and memory, the one of best mean mIoU.

    Those with fewer seeds than others are left out.
    """
    most = max((len(method['seeds']) for method in methods), default=0)
    best: dict[tuple[str, int], Mapping[str, Any]] = {}
    for method in methods:
        if len(method['seeds']) < most:
            continue
        key = repr(sorted(method['local'].items())), method['predicted_peak_bytes']
        if key not in best or method['miou']['mean'] > best[key]['miou']['mean']:
            best[key] = method
    return list(best.values())


def method_name(method: Mapping[str, Any], iterations: int) -> str:
    """The name of a row, with its iterations if they are not those of the study."""
    own = method['iterations']
    name: str = method['name']
    return name if own == iterations else f'{name}, {own} iterations'


def _draw_memory(
    axes: Axes,
    benchmark: Mapping[str, Any],
    methods: Sequence[Mapping[str, Any]],
    num_bars: int,
) -> None:
    values = [method['peak_bytes'] / 2**30 for method in methods]
    names = [_name(method) for method in methods]
    labels = [f'{value:.2f} GiB' for value in values]
    is_local = [method['kind'] == 'local' for method in methods]
    _draw_bars(axes, names, values, labels, is_local, num_bars)
    height, width = benchmark['crop_size']
    _describe(
        axes,
        'Peak memory of a training step, measured',
        f'{benchmark["network"]}, {benchmark["batch_size"]} images of '
        f'{height}x{width}, {benchmark["precision"]}, {benchmark["device"]}',
    )


def _draw_accuracy(
    axes: Axes,
    facts: Mapping[str, Any],
    methods: Sequence[Mapping[str, Any]],
    num_bars: int,
) -> None:
    values = [method['miou']['mean'] for method in methods]
    labels = [
        f'{value:.1f}  ({method["predicted_peak_bytes"] / 2**20:.0f} MiB predicted)'
        for value, method in zip(values, methods, strict=True)
    ]
    is_local = [_has_walls(method['local']) for method in methods]
    names = [method_name(method, facts['iterations']) for method in methods]
    errors = [method['miou']['deviation'] or 0 for method in methods]
    _draw_bars(axes, names, values, labels, is_local, num_bars, errors)
    num_seeds = len(methods[0]['seeds'])
    noun = 'seed' if num_seeds == 1 else 'seeds'
    _describe(
        axes,
        'mIoU (%), measured',
        f'{facts["about"]}, {facts["iterations"]} iterations, {num_seeds} {noun}, '
        f'scored on {facts["scores on"]}',
    )


def _draw_bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    labels: Sequence[str],
    is_local: Sequence[bool],
    num_bars: int,
    errors: Sequence[float] = (),
) -> None:
    colours = [_LOCAL if local else _END_TO_END for local in is_local]
    bars = axes.barh(
        range(len(values)),
        values,
        xerr=errors if any(errors) else None,
        ecolor='#1f2933',
        color=colours,
        height=0.65,
    )
    axes.set_yticks(range(len(values)), names)
    axes.bar_label(bars, labels, padding=4, fontsize=9)
    # Bars of both halves are equally thick.
    axes.set_ylim(num_bars - 0.5, -0.5)
    axes.set_xlim(0, 1.7 * max(values))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _has_walls(local: Mapping[str, Any]) -> bool:
    return (
        local.get('splits') != []
        and not local.get('deep_supervision')
        and local.get('end_to_end_every') != 1
    )


def _describe(axes: Axes, title: str, facts: str) -> None:
    axes.set_title(title, loc='left', fontsize=11, fontweight='bold')
    text = textwrap.fill(facts, _LINE_LENGTH)
    axes.set_xlabel(text, loc='left', fontsize=8, color='#566173')


def _name(method: Mapping[str, Any]) -> str:
    name = _KINDS[method['kind']]
    return f'{name}, K={method["num_modules"]}' if method['kind'] == 'local' else name
