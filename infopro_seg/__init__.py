"""Train segmentation networks as gradient-isolated local modules, on mmsegmentation.

Importing the package registers everything in mmseg's registries; configs do it with
``custom_imports=dict(imports=['infopro_seg'], allow_failed_imports=False)``.
"""

import torch

from . import install
from .version import __version__

install.require_torch(torch.__version__)
install.import_formatter()  # before mmseg, which imports it as well
install.require_mmseg()
install.find_mmseg_configs()

from . import bundled, compat, datasets, engine, models, units  # noqa: E402
from .engine import LocalBackwardHook  # noqa: E402
from .models import (  # noqa: E402
    InfoProCascadeEncoderDecoder,
    InfoProEncoderDecoder,
    LocalHead,
    LocalModule,
)
from .units import State, Unit, describes, fold, units_of  # noqa: E402

compat.name_bases(__name__, bundled.bundled_file)

__all__ = [
    'InfoProCascadeEncoderDecoder',
    'InfoProEncoderDecoder',
    'LocalBackwardHook',
    'LocalHead',
    'LocalModule',
    'State',
    'Unit',
    '__version__',
    'datasets',
    'describes',
    'engine',
    'fold',
    'models',
    'units',
    'units_of',
]
