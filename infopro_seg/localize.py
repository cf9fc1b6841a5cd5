"""Another name of `infopro_seg.settings.localize`, for code that imports from here."""

from .settings.localize import LOCAL_TYPES, local_type, localize, write_localized

__all__ = ['LOCAL_TYPES', 'local_type', 'localize', 'write_localized']
