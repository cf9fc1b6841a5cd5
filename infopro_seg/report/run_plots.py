"""Draws a run's log: losses, score, learning rate, cost of every local module."""

from pathlib import Path

import matplotlib

from .run_log import RunLog

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402  after the choice of a backend

# Title, ending of the names to draw, label of the axis.
_PANELS = (
    ('Losses', ('.loss_recon', '.loss_seg', '.loss_ce', '.loss'), 'loss'),
    ('Validation', ('mIoU',), 'mIoU (%)'),
    ('Learning rate', ('lr',), 'learning rate'),
    ('Activations kept for backward', ('.saved_gib',), 'GiB'),
    ('Peak while the module ran', ('.peak_allocated_gib',), 'allocated GiB'),
    ('Forward and backward', ('.seconds',), 'seconds'),
    ('Gradients', ('.grad_norm',), '2-norm'),
)


def plot_run(log: RunLog, out: str | Path, title: str) -> list[str]:
    """Draw all panels that the log has numbers for.

    Args:
        log: From `read_run`.
        out: PNG file to write.
        title: Above the panels.

    Returns:
        Titles of the panels.

    Raises:
        ValueError: if there is nothing to draw.
    """
    panels = [(name, log.matching(*endings), label) for name, endings, label in _PANELS]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        raise ValueError(f'the log has nothing to draw; it holds {list(log.series)}.')
    figure, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(8, 2.6 * len(panels)),
        squeeze=False,
        layout='constrained',
    )
    for axis, (name, series, label) in zip(axes[:, 0], panels, strict=True):
        for entry, (iterations, values) in series.items():
            marker = 'o' if len(values) < 3 else None
            axis.plot(iterations, values, label=entry, marker=marker, linewidth=1)
        axis.set(title=name, ylabel=label, xlabel='iteration')
        axis.legend(fontsize='small', ncols=2)
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(out, dpi=120)
    pyplot.close(figure)
    return [name for name, _, _ in panels]
