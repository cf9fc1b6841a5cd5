"""Checks of data before training: files, sizes, label values."""

from ..data_root import set_data_root
from .datasets import check_data, check_datasets, check_images
from .labels import CheckLabelsHook

__all__ = [
    'CheckLabelsHook',
    'check_data',
    'check_datasets',
    'check_images',
    'set_data_root',
]
