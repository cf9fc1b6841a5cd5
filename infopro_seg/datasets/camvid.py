"""The CamVid data set in the layout of the SegNet tutorial."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..scopes import register
from .samples import file_reads

CAMVID_LAYOUT = """\
DATA_ROOT/
  train/       0001TP_006690.png (or .jpg), ...     images
  trainannot/  0001TP_006690.png, ...               labels 0..10, 11 = unlabelled
  val/         valannot/                            the same
  test/        testannot/                           the same, optional"""
_IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')
# The SegNet labels give this id to pixels of no class.
_UNLABELLED = 11


@register(DATASETS)
class CamVidDataset(BaseSegDataset):
    """CamVid street scenes with 11 classes.

    The data set's label map, which mmseg's LoadAnnotations applies, turns label 11
    (unlabelled) into 255, so that the ignore index of loss and metric stays 255.

    Args:
        img_suffix: Ending of the images; by default .png, .jpg or .jpeg, whichever is
            in the image folder.
        seg_map_suffix: Ending of the label files.
        **kwargs: As for ``BaseSegDataset``; ``data_prefix`` names the folders, such as
            ``dict(img_path='train', seg_map_path='trainannot')``.

    Raises:
        FileNotFoundError: if a folder is missing, holds no image, or lacks labels that
            the pipeline loads. With ``lazy_init``, only when the files are listed.
        ValueError: if one folder holds images with different endings.

    Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009; class
    order and folders of Badrinarayanan et al., SegNet, 2017.
    """

    METAINFO = {
        'classes': (
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        'palette': [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }

    img_suffix: str | None

    def __init__(
        self,
        *,
        img_suffix: str | None = None,
        seg_map_suffix: str = '.png',
        **kwargs: Any,
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """The label map of a class subset, if any, with 255 for unlabelled."""
        return {**(super().get_label_map(new_classes) or {}), _UNLABELLED: 255}

    def load_data_list(self) -> list[dict]:
        """List the pairs of images and labels.

        Returns:
            One dict for each image, as ``BaseSegDataset`` makes them, sorted by path.

        Raises:
            FileNotFoundError: if a folder is missing, holds no image, or lacks labels.
            ValueError: if one folder holds images with different endings.
        """
        keys = ['img_path'] + ['seg_map_path'] * self._loads_labels()
        folders = [
            Path(self.data_prefix[key])
            for key in keys
            if self.data_prefix.get(key) is not None
        ]
        for folder in folders:
            if not folder.is_dir():
                raise FileNotFoundError(
                    f'CamVid: no folder {folder}. Expected layout:\n{CAMVID_LAYOUT}'
                )
        if self.img_suffix is None:
            self.img_suffix = find_suffix(folders[0])
        data_list = super().load_data_list()
        if not self._loads_labels():
            return data_list
        missing = [
            info['seg_map_path']
            for info in data_list
            if 'seg_map_path' in info and not Path(info['seg_map_path']).is_file()
        ]
        if missing:
            first = ', '.join(missing[:3])
            raise FileNotFoundError(
                f'CamVid: {len(missing)} of {len(data_list)} images have no label '
                f'file, first: {first}. Expected layout:\n{CAMVID_LAYOUT}'
            )
        return data_list

    def _loads_labels(self) -> bool:
        """Whether labels are read: a test split may have none."""
        return any(read.key == 'seg_map_path' for read in file_reads(self))


def find_suffix(folder: Path) -> str:
    """The ending of the images in a folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several.
    """
    found = {path.suffix for path in folder.iterdir()} & set(_IMAGE_SUFFIXES)
    if not found:
        raise FileNotFoundError(
            f'CamVid: no image ({", ".join(_IMAGE_SUFFIXES)}) in {folder}. Expected '
            f'layout:\n{CAMVID_LAYOUT}'
        )
    if len(found) > 1:
        raise ValueError(
            f'CamVid: {folder} holds images ending in {" and ".join(sorted(found))}; '
            'set img_suffix of the data set to the ending that is meant'
        )
    return found.pop()
