"""Draws numbers that other modules computed; nothing is computed here."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402

from ..planner.plan import Plan, PlannedModule  # noqa: E402

_GIB = 2**30
_LAYERS = (
    ('weights, gradients, optimizer, batch', '#9aa5b1'),
    ('activations of the units', '#3b7dd8'),
    ('local or decode head and loss', '#e3a23c'),
    ('at the peak besides', '#c7d7ee'),
)


def plot_plan(plan: Plan, path: str | Path) -> None:
    """Draw the memory of end-to-end training against that of the local modules.

    Args:
        plan: From `Plan.load` or the planner.
        path: Picture file to write.
    """
    bars = [('end-to-end', plan.end_to_end)]
    bars += [(module.name, module) for module in plan.modules]
    figure, axes = plt.subplots(
        figsize=(2.0 + 0.9 * len(bars), 4.2), layout='constrained'
    )
    bottom = [0.0] * len(bars)
    names = [name for name, _ in bars]
    parts = [_parts(module) for _, module in bars]
    for layer, (label, color) in enumerate(_LAYERS):
        heights = [part[layer] / _GIB for part in parts]
        axes.bar(names, heights, bottom=bottom, label=label, color=color)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    if plan.gpu_memory_bytes is not None:
        budget = (plan.gpu_memory_bytes - plan.reserve_bytes) / _GIB
        card = plan.gpu_memory_bytes / _GIB
        axes.axhline(budget, color='#b03030', linestyle='--', linewidth=1)
        axes.annotate(
            f'{card:g} GiB card less the reserve',
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
    axes.legend(fontsize=8, frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _parts(module: PlannedModule) -> tuple[int, int, int, int]:
    """Bytes of the layers of a bar; together the peak.

    The activations are those kept at the end of the forward passes. Where the peak is
    at another time, less of them is alive.
    """
    free = module.peak_bytes
    parts = []
    for num_bytes in (module.start_bytes, module.activation_bytes, module.head_bytes):
        part = max(0, min(num_bytes, free))
        parts.append(part)
        free -= part
    return (*parts, free)
