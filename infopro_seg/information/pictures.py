"""Pictures of what probes reconstruct."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate

from ..evaluation.samples import picture_of
from ..models import InfoProEncoderDecoder, LocalHead
from .network import feature_maps


@torch.no_grad()
def reconstructions(
    network: InfoProEncoderDecoder,
    probes: Mapping[str, LocalHead],
    dataset: BaseDataset,
    indices: Sequence[int],
) -> list[dict[str, np.ndarray]]:
    """Reconstruct some images from every probed map.

    Args:
        network: In evaluation mode.
        probes: Trained, in evaluation mode, by name of the unit.
        dataset: With a test pipeline.
        indices: Of images.

    Returns:
        For each image, RGB pictures (H, W, 3) uint8: ``image``, and one for each unit.
    """
    rows = []
    for index in indices:
        data = network.data_preprocessor(pseudo_collate([dataset[index]]))
        inputs, samples = data['inputs'], data['data_samples']
        size = (inputs.shape[-2], inputs.shape[-1])
        image = network.reconstruction_target(inputs, samples)
        pictures = {'image': picture_of(image[0])}
        for name, feature_map in feature_maps(network, inputs, probes):
            logits = probes[name].reconstruction(feature_map, size)
            pictures[name] = picture_of(logits.sigmoid()[0])
        rows.append(pictures)
    return rows
