"""The best predictor that sees nothing: what a map without information can tell."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..models.readers import stages_of


class Constants:
    """Class frequencies and mean colour of the batches that the probes are trained on.

    Args:
        decode_head: Says which classes there are, and which label is ignored.
        image_channels: Channels of the image.
    """

    def __init__(self, decode_head: nn.Module, image_channels: int):
        head = stages_of(decode_head)[-1]
        self.num_classes = max(2, head.num_classes)
        # None means that nothing is ignored; cross-entropy needs a number.
        ignored = getattr(head, 'ignore_index', None)
        self.ignore_index = 255 if ignored is None else ignored
        # One pixel of each class, so that no class has probability zero.
        self._label_counts = torch.ones(self.num_classes, dtype=torch.float64)
        self._colour_sum = torch.zeros(image_channels, dtype=torch.float64)
        self._num_pixels = 0

    def see(
        self, image: Tensor, valid: Tensor | None, labels: Sequence[Tensor]
    ) -> None:
        """Count the pixels of a batch.

        Args:
            image: (N, C, H, W) in [0, 1].
            valid: (N, 1, H, W) bool, False on padding; None if there is none.
            labels: N label maps (1, H, W).
        """
        for label in labels:
            seen = label[label != self.ignore_index].flatten()
            counts = torch.bincount(seen, minlength=self.num_classes)
            self._label_counts += counts.cpu()
        if valid is None:
            valid = torch.ones_like(image[:, :1], dtype=torch.bool)
        self._colour_sum += (image * valid).double().sum((0, 2, 3)).cpu()
        self._num_pixels += int(valid.sum())

    def label_logits(self) -> Tensor:
        """(num_classes,): the logarithms of the class frequencies."""
        return (self._label_counts / self._label_counts.sum()).log().float()

    def image_logits(self) -> Tensor:
        """(C,): the mean colour before the sigmoid."""
        colour = self._colour_sum / max(1, self._num_pixels)
        return colour.logit(eps=1e-6).float()
