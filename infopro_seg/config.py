"""Another name of `infopro_seg.settings.config`, for code that imports it from here."""

from .settings.config import divide_batch, read_config

__all__ = ['divide_batch', 'read_config']
