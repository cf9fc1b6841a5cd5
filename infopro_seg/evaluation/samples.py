"""Pictures of what a trained local model predicts and reconstructs."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from torch import Tensor

from ..models import InfoProEncoderDecoder


def render_samples(
    model: InfoProEncoderDecoder, dataset: BaseDataset, indices: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """Run a model over some images of a data set.

    Args:
        model: A trained model; put into evaluation mode.
        dataset: A data set with a test pipeline that loads labels.
        indices: Indices of the images.

    Returns:
        For each image, RGB pictures (H, W, 3) uint8 by name: ``image``, ``label``,
        ``prediction`` and ``local_<k>``, the reconstruction of module k.
    """
    model.eval()
    palette = _palette(dataset.metainfo['palette'])
    rows = []
    for index in indices:
        data = pseudo_collate([dataset[index]])
        with torch.no_grad():
            sample = model.test_step(data)[0]
            inputs = model.data_preprocessor(data)['inputs']
            pictures = {'image': picture_of(model.reconstruction_target(inputs)[0])}
            pictures['label'] = palette[sample.gt_sem_seg.data[0].cpu().numpy()]
            pictures['prediction'] = palette[sample.pred_sem_seg.data[0].cpu().numpy()]
            for name, image in model.reconstruct(inputs).items():
                pictures[name] = picture_of(image[0])
        rows.append(pictures)
    return rows


def picture_of(image: Tensor) -> np.ndarray:
    """An image (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _palette(colours: Sequence[Sequence[int]]) -> np.ndarray:
    """(256, 3) uint8 colours of label values; values that are no class are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    return palette
