"""Reads what users set: the ``local`` setting, and the rest of a config.

Pure data and checks. Nothing here builds a network.
"""

from .local import (
    CUTS,
    LocalSettings,
    merged_local,
    with_cuts,
    without_cuts,
    without_end_to_end,
)

__all__ = [
    'CUTS',
    'LocalSettings',
    'merged_local',
    'with_cuts',
    'without_cuts',
    'without_end_to_end',
]
