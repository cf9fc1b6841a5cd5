"""Which numbers of runs make which chart."""

import re
from collections.abc import Iterator, Mapping, Sequence

from .charts import Chart, Curve, chart
from .run import Network, Run
from .run_log import RunLog

_LOCAL = re.compile(r'local_(\d+)\.(.*)')
_LOSS_TITLES = {
    'loss_recon': 'Reconstruction loss of the local heads',
    'loss_seg': 'Segmentation loss of the local heads',
}
# Quantity of LocalModuleMonitorHook, title, unit.
_MEASURED_TIME = (('seconds', 'Forward and backward of each module', 'seconds'),)
_MEASURED_GRADIENTS = (('grad_norm', 'Gradients of each module', '2-norm'),)
# Title, name in the log, unit: what runs are compared by.
_COMPARED = (
    ('mIoU', 'mIoU', '%'),
    ('Loss of the decode head', 'decode.loss_ce', 'loss'),
    ('Time of a step', 'time', 'seconds'),
    ('Learning rate', 'lr', 'learning rate'),
)

Series = Mapping[str, tuple[list[int], list[float]]]


def loss_charts(run: Run, key: str) -> list[Chart]:
    """Losses of local heads by kind, and those of the network's own heads."""
    series = run.log.series
    kinds = {
        match[2]
        for match in map(_LOCAL.fullmatch, series)
        if match is not None and 'loss' in match[2]
    }
    charts = [
        chart(
            _LOSS_TITLES.get(kind, f'{kind} of the local heads'),
            'loss',
            _module_curves(run.log, kind),
            f'{key}-{kind}',
        )
        for kind in sorted(kinds)
    ]
    own = list(_own_losses(series, run.network))
    if own:
        title = 'Losses of the decode and auxiliary heads'
        charts.append(chart(title, 'loss', own, f'{key}-own'))
    return charts or _single(run.log, key, 'loss', 'Sum of all losses', 'loss')


def score_charts(run: Run, key: str) -> list[Chart]:
    """MIoU over time."""
    return _single(run.log, key, 'mIoU', 'mIoU', '%')


def pace_charts(run: Run, key: str) -> list[Chart]:
    """Time, learning rate and gradients."""
    curves = [
        Curve(label, *run.log.series[name], colour)
        for name, label, colour in (('time', 'step', 0), ('data_time', 'data', 1))
        if name in run.log.series
    ]
    charts = [chart('Time of a step', 'seconds', curves, f'{key}-t')] if curves else []
    charts += _measured(run.log, key, _MEASURED_TIME)
    charts += _single(run.log, key, 'lr', 'Learning rate', 'learning rate')
    return charts + _measured(run.log, key, _MEASURED_GRADIENTS)


def comparison_charts(runs: Sequence[Run]) -> list[Chart]:
    """The curves of several runs over one another."""
    charts = []
    for title, name, unit in _COMPARED:
        curves = [
            Curve(run.name, *run.log.series[name], i)
            for i, run in enumerate(runs)
            if name in run.log.series
        ]
        if curves:
            charts.append(chart(title, unit, curves, f'all-{name}'))
    return charts


def _module_curves(log: RunLog, quantity: str) -> list[Curve]:
    """One curve a local module, in its colour."""
    found = [
        (int(match[1]), name)
        for name in log.series
        if (match := _LOCAL.fullmatch(name)) is not None and match[2] == quantity
    ]
    return [Curve(f'local_{i}', *log.series[name], i) for i, name in sorted(found)]


def _measured(
    log: RunLog, key: str, quantities: Sequence[tuple[str, str, str]]
) -> list[Chart]:
    curves = {quantity: _module_curves(log, quantity) for quantity, *_ in quantities}
    return [
        chart(title, unit, curves[quantity], f'{key}-{quantity}')
        for quantity, title, unit in quantities
        if curves[quantity]
    ]


def _single(log: RunLog, key: str, name: str, title: str, unit: str) -> list[Chart]:
    if name not in log.series:
        return []
    return [chart(title, unit, [Curve(name, *log.series[name], 0)], f'{key}-{name}')]


def _own_losses(series: Series, network: Network | None) -> Iterator[Curve]:
    """The decode head in the colour of the last module, then the auxiliary heads."""
    names = [
        name
        for name in series
        if '.' in name and 'loss' in name.rpartition('.')[2] and not _LOCAL.match(name)
    ]
    names.sort(key=lambda name: not name.startswith('decode'))
    last = 0 if network is None else len(network.modules) - 1
    for i, name in enumerate(names):
        yield Curve(name, *series[name], last + i)
