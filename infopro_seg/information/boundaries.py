"""Which unit boundaries are probed; no torch here."""

from collections.abc import Sequence

from ..settings.splits import check_splits, even_splits

_NUM_EVEN = 8


def probed_boundaries(
    unit_names: Sequence[str], given: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Names of the units whose outputs are probed, in the order they run.

    Args:
        unit_names: Names of all units of the backbone, in order.
        given: A choice of these in any order. Default: up to eight, evenly chosen, and
            the last.

    Raises:
        ValueError: if a name is no unit; the nearest ones are listed.
    """
    if given is None:
        num_parts = min(_NUM_EVEN + 1, len(unit_names))
        return *even_splits(unit_names, num_parts), unit_names[-1]
    for name in given:
        try:
            check_splits(unit_names, [name])
        except ValueError as error:
            raise ValueError(f'--boundaries: {error}') from error
    return tuple(name for name in unit_names if name in given)
