"""Pictures of what a trained local model sees: predictions and reconstructions."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from torch import Tensor

from ..models import InfoProEncoderDecoder

_GAP = 4
_CAPTION = 18


def see(
    model: InfoProEncoderDecoder, dataset: BaseDataset, indices: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """Run a model over some images of a data set.

    Args:
        model: A trained model; put into evaluation mode.
        dataset: With a test pipeline that loads labels.
        indices: Which images.

    Returns:
        For every image the RGB pictures ``image``, ``label``, ``prediction`` and
        ``local_<k>``, the reconstruction of module k: (H, W, 3) uint8.
    """
    model.eval()
    palette = _palette(dataset.metainfo['palette'])
    rows = []
    for index in indices:
        data = pseudo_collate([dataset[index]])
        with torch.no_grad():
            sample = model.test_step(data)[0]
            inputs = model.data_preprocessor(data)['inputs']
            pictures = {'image': _picture(model.reconstruction_target(inputs)[0])}
            pictures['label'] = palette[sample.gt_sem_seg.data[0].cpu().numpy()]
            pictures['prediction'] = palette[sample.pred_sem_seg.data[0].cpu().numpy()]
            for name, image in model.reconstruct(inputs).items():
                pictures[name] = _picture(image[0])
        rows.append(pictures)
    return rows


def save_grid(
    rows: Sequence[dict[str, np.ndarray]], columns: Sequence[str], path: str | Path
) -> None:
    """Save pictures as a table: a row an image, a column a kind, named above it.

    Args:
        rows: From `see`; pictures of one size.
        columns: Which kinds, from left to right.
        path: PNG to write.
    """
    height, width = rows[0][columns[0]].shape[:2]
    grid = np.full(
        (
            _CAPTION + len(rows) * (height + _GAP),
            len(columns) * (width + _GAP) - _GAP,
            3,
        ),
        255,
        np.uint8,
    )
    for j, column in enumerate(columns):
        left = j * (width + _GAP)
        cv2.putText(
            grid, column, (left + 2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1
        )
        for i, row in enumerate(rows):
            top = _CAPTION + i * (height + _GAP)
            grid[top : top + height, left : left + width] = row[column]
    if not cv2.imwrite(str(path), grid[..., ::-1]):
        raise OSError(f'cannot write the picture {path}.')


def _picture(image: Tensor) -> np.ndarray:
    return (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _palette(colours: Sequence[Sequence[int]]) -> np.ndarray:
    """Colours of 256 label values; what is no class is black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    return palette
