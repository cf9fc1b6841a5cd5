"""Scores of probes on validation images, and the information that they prove.

Both bounds compare a probe with the best constant predictor. With q the probe's
prediction, I(h, y) = H(y) - H(y | h) >= H(y) - E[-log2 q(y | h)] (Barber and Agakov,
NeurIPS 2003). Wang et al. (ICLR 2021, section 3, figure 2) show what such probes
reconstruct and predict without turning it into bits.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmseg.evaluation.metrics import IoUMetric
from torch import Tensor
from torch.nn import functional

from ..models import InfoProEncoderDecoder, LocalHead
from ..models.heads.reconstruction import valid_mask
from .constants import Constants
from .network import feature_maps

# Images have 256 levels: the error of rounding to them is the least that counts.
_ROUNDING_MSE = 1 / (12 * 255**2)


class Score:
    """Sums over validation images of one predictor, a probe or a constant.

    Args:
        num_classes: Number of classes.
        ignore_index: Label that does not count.
    """

    def __init__(self, num_classes: int, ignore_index: int):
        self._num_classes, self._ignore_index = num_classes, ignore_index
        self._areas = [torch.zeros(num_classes) for _ in range(4)]
        self._label_nats = self._num_labels = 0.0
        self._image_nats = self._num_values = 0.0
        self._squared: Tensor | float = 0.0

    def add_labels(self, logits: Tensor, label: Tensor) -> None:
        """Compare with a label map.

        Args:
            logits: (num_classes, H, W).
            label: (H, W).
        """
        nats = functional.cross_entropy(
            logits[None], label[None], ignore_index=self._ignore_index, reduction='none'
        )
        self._label_nats += nats.double().sum().item()
        self._num_labels += int((label != self._ignore_index).sum())
        areas = IoUMetric.intersect_and_union(
            logits.argmax(0), label, self._num_classes, self._ignore_index
        )
        self._areas = [
            total + area for total, area in zip(self._areas, areas, strict=True)
        ]

    def add_image(self, logits: Tensor, image: Tensor, valid: Tensor) -> None:
        """Compare with images.

        Args:
            logits: (N, C, H, W), before the sigmoid.
            image: (N, C, H, W) in [0, 1].
            valid: (N, 1, H, W) bool, False on padding.
        """
        nats = functional.binary_cross_entropy_with_logits(
            logits, image, reduction='none'
        )
        squared = (logits.sigmoid() - image).square()
        self._image_nats += (nats * valid).double().sum().item()
        self._num_values += int(valid.sum()) * image.shape[1]
        self._squared += (squared * valid).double().sum((0, 2, 3)).cpu()

    @property
    def cross_entropy_bits(self) -> float:
        """Bits per labelled pixel that the labels cost under the predictions."""
        return self._label_nats / max(1, self._num_labels) / math.log(2)

    @property
    def squared_errors(self) -> Tensor:
        """(C,): mean squared error of each channel of the image in [0, 1]."""
        errors = torch.as_tensor(self._squared, dtype=torch.float64).reshape(-1)
        return errors * len(errors) / max(1, self._num_values)

    def label_entropy_bits(self) -> float:
        """Entropy of the label frequencies of these images, in bits per pixel."""
        frequencies = self._areas[3].double() / max(1, self._num_labels)
        return -torch.special.xlogy(frequencies, frequencies).sum().item() / math.log(2)

    def summary(self) -> dict[str, float]:
        """The scores.

        ``miou`` in percent, over the classes that occur; ``cross_entropy_bits``;
        ``reconstruction_bce``, the mean binary cross-entropy in nats as in the paper;
        ``reconstruction_mse``, the mean squared error of values in [0, 1].
        """
        iou = IoUMetric.total_area_to_metrics(*self._areas)['IoU']
        return {
            'miou': 100 * float(torch.tensor(iou).nanmean()),
            'cross_entropy_bits': self.cross_entropy_bits,
            'reconstruction_bce': self._image_nats / max(1, self._num_values),
            'reconstruction_mse': self.squared_errors.mean().item(),
        }


def label_information_bits(probe: Score, constant: Score) -> float:
    """Lower bound on I(h, y) in bits per labelled pixel, not below 0.

    The entropy H(y) is what the labels cost under the class frequencies of the training
    data. It exceeds that of the frequencies of the validation data by their
    Kullback-Leibler divergence, and by that much the bound may be too high.
    """
    return max(0.0, constant.cross_entropy_bits - probe.cross_entropy_bits)


def image_information_bits(probe: Score, constant: Score) -> float:
    """Lower bound on I(h, x) in bits per pixel under a model, not below 0.

    The model: pixels and channels are independent, each normally distributed around
    the constant, with the variance that fits best. Then a map from which channel c can
    be reconstructed with mean squared error e_c tells at least
    sum_c log2(constant_c / e_c) / 2 bits (rate and distortion of a Gaussian source,
    Cover and Thomas, Elements of Information Theory, theorem 10.3.2). Neighbours in a
    real image are alike, so it is a measure to compare maps with, not a number of bits
    that could be stored.
    """
    errors = probe.squared_errors.clamp(min=_ROUNDING_MSE)
    constants = constant.squared_errors.clamp(min=_ROUNDING_MSE)
    return max(0.0, (constants / errors).log2().sum().item() / 2)


@torch.no_grad()
def score_probes(
    network: InfoProEncoderDecoder,
    probes: Mapping[str, LocalHead],
    constants: Constants,
    batches: Iterable[Mapping],
) -> dict[str, Any]:
    """Score probes and the constant predictor on validation images.

    Labels are compared at their own size, as in the evaluation of the network.

    Args:
        network: In evaluation mode.
        probes: Trained, in evaluation mode, by name of the unit.
        constants: From training.
        batches: With ``inputs`` and ``data_samples``.

    Returns:
        ``constant``, with `Score.summary`, ``label_entropy_bits`` (of these images) and
        ``least_bce`` (that of a perfect reconstruction); and ``boundaries``, a list of
        summaries with ``unit``, ``label_information_bits`` and
        ``image_information_bits``.
    """
    shape = constants.num_classes, constants.ignore_index
    constant, perfect = Score(*shape), Score(*shape)
    scores = {name: Score(*shape) for name in probes}
    for batch in batches:
        inputs, samples = batch['inputs'], batch['data_samples']
        size = (inputs.shape[-2], inputs.shape[-1])
        image = network.reconstruction_target(inputs, samples)
        valid = _valid(samples, image)
        labels = [sample.gt_sem_seg.data.squeeze(0) for sample in samples]
        _add_constants(constant, constants, image, valid, labels)
        perfect.add_image(image.logit(eps=1e-6), image, valid)
        for name, feature_map in feature_maps(network, inputs, probes):
            probe, score = probes[name], scores[name]
            score.add_image(probe.reconstruction(feature_map, size), image, valid)
            logits = functional.interpolate(
                probe.segmentation((feature_map,)),
                size=size,
                mode='bilinear',
                align_corners=network.align_corners,
            )
            predicted = network.postprocess_result(logits, samples)
            for sample, label in zip(predicted, labels, strict=True):
                score.add_labels(sample.seg_logits.data, label)
    entry = {
        **constant.summary(),
        'label_entropy_bits': constant.label_entropy_bits(),
        'least_bce': perfect.summary()['reconstruction_bce'],
    }
    found = [_boundary(name, score, constant) for name, score in scores.items()]
    return {'constant': entry, 'boundaries': found}


def _boundary(name: str, score: Score, constant: Score) -> dict[str, Any]:
    return {
        'unit': name,
        **score.summary(),
        'label_information_bits': label_information_bits(score, constant),
        'image_information_bits': image_information_bits(score, constant),
    }


def _add_constants(
    score: Score, constants: Constants, image: Tensor, valid: Tensor, labels: list
) -> None:
    colour = constants.image_logits().to(image.device)[None, :, None, None]
    score.add_image(colour.expand_as(image), image, valid)
    logits = constants.label_logits().to(image.device)[:, None, None]
    for label in labels:
        score.add_labels(logits.expand(-1, *label.shape), label)


def _valid(samples: list, image: Tensor) -> Tensor:
    """(N, 1, H, W) bool: False on the padding of images for a test."""
    paddings = [s.metainfo.get('img_padding_size', (0,) * 4) for s in samples]
    size = (image.shape[-2], image.shape[-1])
    valid = valid_mask(paddings, size, image.device)
    if valid is None:
        return torch.ones_like(image[:, :1], dtype=torch.bool)
    return valid
