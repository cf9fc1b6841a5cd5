"""Data sets that mmseg lacks, and checks of data before training.

Importing this package registers ``DrawnStreetDataset``, ``CamVidDataset``,
``DrawScene`` and ``CheckLabelsHook`` with mmseg.
"""

from .camvid import CamVidDataset
from .check.datasets import check_data, check_datasets, check_images
from .check.labels import CheckLabelsHook
from .data_root import set_data_root
from .dataset_configs import loaders_of
from .streets.dataset import DrawnStreetDataset, DrawScene
from .streets.drawing import draw_scene

__all__ = [
    'CamVidDataset',
    'CheckLabelsHook',
    'DrawScene',
    'DrawnStreetDataset',
    'check_data',
    'check_datasets',
    'check_images',
    'draw_scene',
    'loaders_of',
    'set_data_root',
]
