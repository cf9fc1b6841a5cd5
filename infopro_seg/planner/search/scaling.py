"""Costs between two measured batch or crop sizes. Pure numbers."""

import dataclasses
from typing import Any

from .costs import Chain

_MEASURED = (
    'units',
    'heads',
    'tail',
    'auxiliaries',
    'outputs',
    'skips',
    'start_bytes',
    'end_to_end',
)


def interpolate(first: Chain, second: Chain, weight: float) -> Chain:
    """A chain on the line through two.

    Bytes and FLOPs grow linearly with the batch and with the area of the crop, apart
    from what weights need; only where another operator becomes the peak of a pass is
    there a kink.

    Args:
        first: Costs at weight 0.
        second: Costs at weight 1, of the same network.
        weight: Any number.
    """
    return dataclasses.replace(
        first,
        **{
            name: _between(getattr(first, name), getattr(second, name), weight)
            for name in _MEASURED
        },
    )


def _between(first: Any, second: Any, weight: float) -> Any:
    if first is None or second is None:
        return None
    if isinstance(first, Chain):
        return interpolate(first, second, weight)
    if isinstance(first, tuple):
        values = [_between(a, b, weight) for a, b in zip(first, second, strict=True)]
        return type(first)(*values) if hasattr(first, '_fields') else tuple(values)
    if isinstance(first, int) and not isinstance(first, bool):
        return round(first + weight * (second - first))
    return first
