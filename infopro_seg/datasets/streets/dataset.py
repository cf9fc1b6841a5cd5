"""Drawn street scenes as an mmseg data set, and the transform that draws them.

``drawing.py`` draws the scenes.
"""

from collections.abc import Callable, Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.registry import DATASETS, TRANSFORMS

from ...scopes import register
from .scene_files import draw_named, scene_name

# With fewer pixels per side, traffic lights and riders vanish.
_MIN_SIZE = 32


@register(DATASETS)
class DrawnStreetDataset(BaseSegDataset):
    """Street scenes with the 19 Cityscapes classes, drawn when they are loaded.

    For trials, tests and benchmarks without data on disk. A scene depends only on
    ``seed`` and its index; give training and validation different seeds. Load scenes
    with ``dict(type='DrawScene')`` in place of LoadImageFromFile and LoadAnnotations
    (those work, too, by the ``drawn://`` file backend, but draw every scene twice).

    Args:
        num_scenes: Length of the data set.
        size: Height and width of the scenes in pixels.
        seed: Identifies the set of scenes; 0 or more.
        metainfo: As for ``BaseSegDataset``; ``classes`` may name a subset.
        indices: How many scenes to keep from the start, or a list of scenes to keep.
        pipeline: Transforms; the first is ``DrawScene``.
        test_mode: As for ``BaseSegDataset``.
        lazy_init: As for ``BaseSegDataset``.
        serialize_data: As for ``BaseSegDataset``.
        max_refetch: As for ``BaseSegDataset``.

    Raises:
        ValueError: if ``num_scenes`` is below 1, if the size is not two integers of at
            least 32, or if the seed is negative.
    """

    METAINFO = CityscapesDataset.METAINFO

    def __init__(
        self,
        *,
        num_scenes: int,
        size: Sequence[int],
        seed: int,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
        max_refetch: int = 1000,
    ) -> None:
        if num_scenes < 1:
            raise ValueError(
                f'num_scenes={num_scenes}: a data set needs at least one scene'
            )
        if len(size) != 2 or any(int(n) != n or n < _MIN_SIZE for n in size):
            raise ValueError(
                f'size={tuple(size)}: give (height, width), integers of at least '
                f'{_MIN_SIZE} pixels'
            )
        if seed < 0:
            raise ValueError(f'seed={seed}: give an integer of 0 or more')
        self.num_scenes = num_scenes
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        super().__init__(
            metainfo=metainfo,
            indices=indices,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            serialize_data=serialize_data,
            max_refetch=max_refetch,
        )

    def load_data_list(self) -> list[dict]:
        """Names of all scenes, in the form in which ``BaseSegDataset`` lists files."""
        return [
            {
                'img_path': scene_name(*self.size, seed=self.seed, index=index),
                'seg_map_path': scene_name(
                    *self.size, seed=self.seed, index=index, is_labels=True
                ),
                'label_map': self.label_map,
                'reduce_zero_label': self.reduce_zero_label,
                'seg_fields': [],
            }
            for index in range(self.num_scenes)
        ]


@register(TRANSFORMS)
class DrawScene(BaseTransform):
    """Draw the scene of ``DrawnStreetDataset`` that ``img_path`` names.

    Replaces LoadImageFromFile and LoadAnnotations and sets the same keys: ``img``
    (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape`` (H, W), ``gt_seg_map`` (H, W)
    uint8, and the latter's name in ``seg_fields``.

    Raises:
        ValueError: if ``img_path`` is not the name of a drawn scene.
    """

    def transform(self, results: dict) -> dict:
        """Add image and labels to ``results``, in place."""
        image, labels = draw_named(results['img_path'])
        if results.get('label_map') is not None:
            table = np.arange(256, dtype=np.uint8)
            for old, new in results['label_map'].items():
                table[old] = new
            labels = table[labels]
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
