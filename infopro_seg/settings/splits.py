"""Where the chain of units is cut: names in, unit ranges out. Pure, no torch."""

import difflib
import itertools
from collections.abc import Sequence

import numpy as np


def even_splits(unit_names: Sequence[str], num_modules: int) -> tuple[str, ...]:
    """Cut into ``num_modules`` local modules with (nearly) the same number of units.

    Args:
        unit_names: Names of all units of the backbone, in order.
        num_modules: K, from 1 (end-to-end) to the number of units + 1, where the last
            module is the decode head alone.

    Returns:
        The names of the last units of all modules but the last: K - 1 of them.

    Raises:
        ValueError: if there are fewer than ``num_modules`` - 1 units.
    """
    num_units = len(unit_names)
    if not 1 <= num_modules <= num_units + 1:
        raise ValueError(
            f'num_modules={num_modules} is out of range: this backbone has '
            f'{num_units} units ({unit_names[0]} ... {unit_names[-1]}), so num_modules '
            f'can be 1 (end-to-end) to {num_units + 1} (each unit, the decode head).'
        )
    if num_modules == num_units + 1:
        return tuple(unit_names)
    ends = [round(i * num_units / num_modules) for i in range(1, num_modules)]
    return tuple(unit_names[end - 1] for end in ends)


def evenest_ends(costs: np.ndarray, num_modules: int) -> tuple[int, ...]:
    """Cut so that the costliest module is as cheap as possible, and the rest is even.

    Args:
        costs: [i, j] is the cost of the module of units i to j - 1 for i, j <= U, and
            [i, U + 1] of the last module, from unit i on. Shape (U + 1, U + 2).
        num_modules: K, from 1 to U + 1.

    Returns:
        The ends of all modules: K - 1 increasing numbers of units, then U + 1. The
        largest cost is minimal, and among such cuts the sum of squares is minimal.
    """
    dearest = best_ends(costs, num_modules, np.maximum)[0]
    squares = np.where(costs <= dearest, costs**2, np.inf)
    return best_ends(squares, num_modules, np.add)[1]


def best_ends(
    costs: np.ndarray, num_modules: int, join: np.ufunc
) -> tuple[float, tuple[int, ...]]:
    """The least joined cost of a chain of modules, and the ends of the modules."""
    last = costs.shape[1] - 1
    # best[i]: the least joined cost from unit i on; each round adds a module.
    best = costs[:, last]
    choices = []
    for _ in range(num_modules - 1):
        joined = join(costs[:, :last], best[None, :])
        choices.append(np.argmin(joined, axis=1))
        best = np.min(joined, axis=1)
    start, ends = 0, []
    for choice in reversed(choices):
        start = int(choice[start])
        ends.append(start)
    return float(best[0]), (*ends, last)


def check_splits(unit_names: Sequence[str], splits: Sequence[str]) -> None:
    """Check that splits are names of units, in order and without repetition.

    The last unit is a valid split: the last module is then the decode head alone.

    Args:
        unit_names: Names of all units of the backbone, in order.
        splits: Names of the last units of all modules but the last.

    Raises:
        TypeError: if ``splits`` is a single string.
        ValueError: if a name is unknown (the nearest valid ones are listed),
            repeated or out of order.
    """
    if isinstance(splits, str):
        raise TypeError(f'splits={splits!r} must be a list: splits=[{splits!r}].')
    for split in splits:
        if split not in unit_names:
            raise ValueError(_unknown(unit_names, split))
    position = {name: i for i, name in enumerate(unit_names)}
    for before, after in itertools.pairwise(splits):
        if before == after:
            raise ValueError(
                f'splits={list(splits)} names {after!r} twice; name each unit once.'
            )
        if position[before] > position[after]:
            ordered = sorted(set(splits), key=position.__getitem__)
            raise ValueError(
                f'splits={list(splits)} are out of order: {after!r} runs before '
                f'{before!r}. Write splits={ordered}.'
            )


def module_ranges(
    unit_names: Sequence[str], splits: Sequence[str]
) -> tuple[range, ...]:
    """The unit indices of each local module.

    Args:
        unit_names: Names of all units of the backbone, in order.
        splits: Valid splits, see `check_splits`.

    Returns:
        One range per module; together they cover all units. The last one is empty if
        the last unit is a split.
    """
    ends = [list(unit_names).index(split) + 1 for split in splits]
    return tuple(
        range(start, end)
        for start, end in itertools.pairwise([0, *ends, len(unit_names)])
    )


def stage_ranges(pipeline: int | Sequence[int], num_modules: int) -> tuple[range, ...]:
    """The local modules of each stage of a pipeline.

    Args:
        pipeline: Number of stages P, which get (nearly) the same number of modules; or
            the number of modules of each stage.
        num_modules: K.

    Returns:
        One range of modules per stage; together they cover all.

    Raises:
        ValueError: if there are fewer modules than stages, or if their numbers do not
            add up to K.
    """
    if isinstance(pipeline, int):
        if pipeline > num_modules:
            raise ValueError(
                f'local.pipeline={pipeline} needs as many local modules, and the '
                f'network has {num_modules}: set num_modules={pipeline} or more.'
            )
        ends = [round(i * num_modules / pipeline) for i in range(pipeline + 1)]
    else:
        ends = [0, *itertools.accumulate(pipeline)]
        if ends[-1] != num_modules:
            raise ValueError(
                f'local.pipeline={list(pipeline)} is for {ends[-1]} local modules, and '
                f'the network has {num_modules}.'
            )
    return tuple(range(start, end) for start, end in itertools.pairwise(ends))


def linear_weights(first_last: float | Sequence[float], num: int) -> tuple[float, ...]:
    """Loss weights that change linearly from the first module to the last but one.

    The modules in between get weight ``first + i / (num - 1) * (last - first)`` (Wang
    et al., ICLR 2021, section 5, where ``num`` = K - 1).

    Args:
        first_last: The weights of the first and the last of ``num`` modules, or one
            number for all. A single module gets the first.
        num: Number of local modules that have a local head, K - 1.

    Returns:
        ``num`` weights.

    Raises:
        ValueError: if a weight is negative or not finite, or if there are not
            one or two of them.
    """
    ends = (
        (first_last, first_last)
        if isinstance(first_last, int | float)
        else tuple(first_last)
    )
    if len(ends) != 2:
        raise ValueError(
            f'weights={first_last!r} must be one number, or two: of the first module '
            'and of the last but one.'
        )
    if not all(0 <= end < float('inf') for end in ends):
        raise ValueError(
            f'weights={first_last!r} must be finite and not negative; 0 switches the '
            'loss off.'
        )
    first, last = ends
    if num < 2:
        return (float(first),) * num
    return tuple(first + i / (num - 1) * (last - first) for i in range(num))


def _unknown(unit_names: Sequence[str], split: str) -> str:
    near = difflib.get_close_matches(str(split), unit_names, n=3, cutoff=0.5)
    hint = f'Nearest: {", ".join(near)}. ' if near else ''
    return (
        f'split {split!r} is not a unit of this backbone. {hint}'
        f'All units: {", ".join(unit_names)}.'
    )
