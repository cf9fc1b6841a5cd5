"""Packaging: version ranges here, the tested pins in requirements.txt."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(
    r"__version__ = '([^']+)'", (ROOT / 'infopro_seg' / 'version.py').read_text()
).group(1)


class BuildWithConfigs(build_py):
    """Puts configs and tools where mmseg has its own, see infopro_seg/bundled.py."""

    def run(self):
        super().run()
        if self.editable_mode:  # they are read from the checkout
            return
        for name in ('configs', 'tools'):
            folder = Path(self.build_lib) / 'infopro_seg' / '.mim' / name
            shutil.rmtree(folder, ignore_errors=True)
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT / name, folder, ignore=ignored)


setup(
    name='infopro-seg',
    version=VERSION,
    description='Train segmentation networks as gradient-isolated local modules',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['infopro_seg', 'infopro_seg.*']),
    package_data={'infopro_seg': ['report/price_list.json', 'report/templates/*']},
    py_modules=['infopro_seg_command'],
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['infopro-seg = infopro_seg_command:main']},
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
