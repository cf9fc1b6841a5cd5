"""Amounts of memory, read from text and written as text."""

import math
import re

_UNITS = {
    'B': 1,
    **{f'{prefix}B': 1000 ** (i + 1) for i, prefix in enumerate('KMGT')},
    **{f'{prefix}iB': 1024 ** (i + 1) for i, prefix in enumerate('KMGT')},
}
# No GPU has fewer bytes: whoever writes 11 means GiB.
_LEAST_WITHOUT_UNIT = 2**20
_PATTERN = re.compile(r'\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*', re.IGNORECASE)


def parse_bytes(text: str | float, name: str = 'gpu_memory') -> int:
    """Read an amount of memory.

    Args:
        text: An amount such as ``'11GiB'``, ``'8 GB'`` or ``12e9``. Without a unit it
            is in bytes and must be at least 1 MiB.
        name: Name of the setting in the error.

    Raises:
        TypeError: if it is neither text nor a number.
        ValueError: if it cannot be read or is not a positive number of bytes.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise TypeError(
            f"{name}={text!r} must be text such as '11GiB' or a number of bytes."
        )
    match = _PATTERN.fullmatch(str(text))
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    try:
        if match is None:
            raise ValueError
        num_bytes = float(match[1]) * units[(match[2] or 'B').lower()]
    except (ValueError, KeyError):
        raise ValueError(
            f'{name}={text!r} is not an amount of memory; write a number and one of '
            f"{', '.join(_UNITS)}, such as '11GiB' or '8 GB'."
        ) from None
    if not match[2] and 1 <= num_bytes < _LEAST_WITHOUT_UNIT:
        raise ValueError(
            f'{name}={text!r} would be that many bytes; write a unit, such as '
            f"'{text}GiB'."
        )
    if not (math.isfinite(num_bytes) and num_bytes >= 1):
        raise ValueError(f'{name}={text!r} must be at least one byte.')
    return int(num_bytes)


def gib(num_bytes: float) -> str:
    """Bytes as text in GiB, such as ``4.35 GiB``."""
    return f'{num_bytes / 2**30:.2f} GiB'
