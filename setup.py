"""Packaging: version ranges here, the tested pins in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r"__version__ = '([^']+)'", (ROOT / 'infopro_seg' / 'version.py').read_text()
).group(1)

setup(
    name='infopro-seg',
    version=VERSION,
    description='Train segmentation networks as gradient-isolated local modules',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['infopro_seg', 'infopro_seg.*']),
    package_data={'infopro_seg': ['report/templates/*']},
    install_requires=[
        'torch>=2.6',
        'torchvision',
        'numpy',
        'matplotlib',
        'prettytable',
        'jinja2',  # comes with torch
        # Both come with mmseg.
        'pyyaml',
        'scipy',
    ],
    # Both families provide the import names mmcv, mmengine and mmseg, and pip would
    # install one over the other: the user chooses one.
    extras_require={
        'onedl': [
            'onedl-mmengine>=0.10.12',
            'onedl-mmcv>=2.3.6',
            'onedl-mmsegmentation>=1.4.2',
            'opencv-python',
        ],
        'openmmlab': [
            'mmengine>=0.10.7',
            'mmcv>=2.0.0rc4,<2.2.0',
            'mmsegmentation>=1.2.2',
            'opencv-python',
            'ftfy',
            'regex',
        ],
        'cityscapes': ['cityscapesscripts>=2.2'],
    },
)
