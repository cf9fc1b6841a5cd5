"""Data sets that mmseg lacks, and checks of data before training.

Importing this package registers ``DrawnStreetDataset``, ``CamVidDataset``,
``DrawScene`` and ``CheckLabelsHook`` with mmseg.
"""

from .camvid import CamVidDataset
from .check import check_datasets, set_data_root
from .check_images import check_images
from .check_labels import CheckLabelsHook
from .drawing import draw_scene
from .streets import DrawnStreetDataset, DrawScene

__all__ = [
    'CamVidDataset',
    'CheckLabelsHook',
    'DrawScene',
    'DrawnStreetDataset',
    'check_datasets',
    'check_images',
    'draw_scene',
    'set_data_root',
]
