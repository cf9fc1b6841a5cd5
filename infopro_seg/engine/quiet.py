"""The host's log without the lines that it writes for every parameter."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger


@contextmanager
def quiet_log() -> Iterator[None]:
    """While active, the host logs errors only (weights are initialised, loaded)."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        yield
    finally:
        logger.setLevel(level)
