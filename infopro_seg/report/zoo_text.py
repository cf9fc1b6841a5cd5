"""Surveys of mmseg's configs as Markdown."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ..zoo.classify import Verdict
from ..zoo.memory_table import Cell, Row
from .tables import narrow_markdown_table

_SUPPORTED = ('backbone', 'supported', 'units', 'refused', 'reason')
_REFUSED = ('config', 'reason')


def support_parts(
    verdicts: Sequence[Verdict], versions: Mapping[str, str]
) -> dict[str, str]:
    """Which configs are supported, as parts of a page.

    Args:
        verdicts: Verdicts on all configs.
        versions: Names and versions of the packages used.

    Returns:
        ``supported``, a table by family, and ``refused``, every refusal.
    """
    num_supported = sum(verdict.is_supported for verdict in verdicts)
    packages = ', '.join(f'{name} {version}' for name, version in versions.items())
    families = sorted({verdict.family for verdict in verdicts}, key=str.lower)
    supported = [
        f'{num_supported} of the {len(verdicts)} configs of {packages}. '
        'Written by `python tools/classify_models.py --markdown docs/models.md`.',
        'A supported model was built as local modules and probed at every unit '
        'boundary. "Units" is how many local modules it can have at most.',
        narrow_markdown_table(
            _SUPPORTED, [_family_row(family, verdicts) for family in families]
        ),
    ]
    refused = [(v.config, v.reason) for v in verdicts if not v.is_supported]
    return {
        'supported': '\n\n'.join(supported),
        'refused': narrow_markdown_table(_REFUSED, refused),
    }


def memory_report(rows: Sequence[Row], counts: Sequence[int]) -> str:
    """Predicted memory as a table, then which models are left out and why.

    Args:
        rows: From `infopro_seg.zoo.memory_table.measure`.
        counts: Numbers of modules, one column each.
    """
    modules = [f'K={count}' for count in counts]
    table = narrow_markdown_table(
        (
            'config',
            'images',
            'end-to-end GiB',
            'checkpointing',
            'exact',
            *modules,
            'error',
        ),
        [_memory_row(row, counts) for row in rows if not row.reason],
    )
    left_out = [f'- {_name(row)}: {row.reason}' for row in rows if row.reason]
    if not left_out:
        return table
    return '\n'.join([table, '', 'Without numbers:', '', *left_out])


def _family_row(family: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    own = [verdict for verdict in verdicts if verdict.family == family]
    units = [verdict.num_units for verdict in own if verdict.is_supported]
    ends = sorted({min(units), max(units)}) if units else []
    reasons = Counter(verdict.reason for verdict in own if not verdict.is_supported)
    return (
        family,
        str(len(units)),
        ' to '.join(map(str, ends)),
        str(len(own) - len(units)),
        '; '.join(f'{reason} ({num})' for reason, num in reasons.items()),
    )


def _memory_row(row: Row, counts: Sequence[int]) -> tuple[str, ...]:
    height, width = row.crop_size
    size = f'{row.batch_size} of {height}x{width}'
    if row.amp_dtype:
        size += f', {row.amp_dtype}'
    whole = row.end_to_end_bytes
    error = round(100 * row.prediction_error, 1) + 0.0  # never -0.0
    by_number = {cell.num_modules: cell for cell in row.cells}
    cells = [
        '' if cell is None else _cell(cell, cell.num_modules, whole)
        for cell in (row.checkpointing, row.exact)
    ]
    for count in counts:
        cell = by_number.get(count)
        if cell is None and count > row.cells[-1].num_modules:
            cell = row.cells[-1]
        cells.append('' if cell is None else _cell(cell, count, whole))
    return (_name(row), size, f'{whole / 2**30:.2f}', *cells, f'{error:+.1f}%')


def _cell(cell: Cell, count: int, whole: int) -> str:
    text = f'{cell.peak_bytes / 2**30:.2f} ({100 * cell.peak_bytes / whole:.0f}%'
    if cell.flops_overhead:
        text += f', +{100 * cell.flops_overhead:.1f}%'
    if cell.num_modules != count:
        text += f', K={cell.num_modules}'
    return text + ')'


def _name(row: Row) -> str:
    return row.config.rpartition('/')[-1].removesuffix('.py')
