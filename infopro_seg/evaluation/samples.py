"""What a trained local model sees on some images: predictions and reconstructions."""

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


def _picture(image: Tensor) -> np.ndarray:
    return (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _palette(colours: Sequence[Sequence[int]]) -> np.ndarray:
    """Colours of 256 label values; what is no class is black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    return palette
