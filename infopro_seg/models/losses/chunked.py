"""The cross-entropy of mmseg's decode heads without full-resolution maps in memory.

A stock head upsamples its logits to the labels and keeps the result, its log-softmax
and their gradients: (N, num_classes, H, W) several times. Here a few label rows
at a time are upsampled, compared and differentiated down to the small logits; only the
gradient of the small logits is kept. The results equal those of the stock loss up to
float32 rounding. The work is the same, too: nothing is computed twice.
"""

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ...compat import labels_of

# Upper bound on the upsampled logits of one chunk; a few maps of this size exist at
# once. With 19 classes and 1024 columns it is 215 rows, enough work for a GPU.
CHUNK_BYTES = 16 * 2**20


def use_lean_loss(head: nn.Module) -> str | None:
    """Let a decode head compute its loss in chunks.

    Only this instance is changed: its ``loss_by_feat`` becomes
    `lean_loss_by_feat`. Keys, prediction, copies and pickles are as before.

    Args:
        head: A decode, auxiliary or local segmentation head.

    Returns:
        None, or why the head keeps its own loss, see `obstacle`.
    """
    if getattr(vars(head).get('loss_by_feat'), 'func', None) is lean_loss_by_feat:
        return None
    reason = obstacle(head)
    if reason is None:
        vars(head)['loss_by_feat'] = functools.partial(lean_loss_by_feat, head)
    return reason


def warn_of(obstacles: Mapping[str, str | None]) -> None:
    """Warn about heads on which ``lean_loss=True`` has no effect, and say why."""
    for name, reason in obstacles.items():
        if reason is not None:
            warnings.warn(
                f'lean_loss=True has no effect on {name}: {reason}. It needs a decode '
                'head with the loss_by_feat of BaseDecodeHead, without sampler, and '
                "one loss_decode=dict(type='CrossEntropyLoss') with softmax and "
                "reduction 'mean'.",
                stacklevel=2,
            )


def lean_loss_by_feat(
    head: BaseDecodeHead, seg_logits: Tensor, batch_data_samples: list
) -> dict[str, Tensor]:
    """Compute what ``head.loss_by_feat`` returns, with little memory.

    Args:
        head: A head that `use_lean_loss` accepts.
        seg_logits: (N, num_classes, h, w).
        batch_data_samples: N samples with ``gt_sem_seg`` (1, H, W).

    Returns:
        The loss under the name of ``head.loss_decode``, and ``acc_seg``.
    """
    labels = labels_of(head, batch_data_samples).squeeze(1)
    criterion = head.loss_decode
    weight = criterion.class_weight
    if seg_logits.dtype != torch.float64:
        seg_logits = seg_logits.float()
    if weight is not None:
        weight = seg_logits.new_tensor(weight)
    total, correct = _ChunkedCrossEntropy.apply(
        seg_logits, labels, weight, head.ignore_index, head.align_corners
    )
    # The same denominators and the same epsilon as mmseg's.
    eps = torch.finfo(torch.float32).eps
    valid = labels != head.ignore_index
    num_valid = valid.sum()
    if weight is not None:
        num_averaged = (weight[labels.where(valid, 0)] * valid).sum()
    else:
        num_averaged = num_valid if criterion.avg_non_ignore else labels.numel()
    return {
        criterion.loss_name: criterion.loss_weight * (total / (num_averaged + eps)),
        'acc_seg': (correct + eps) * (100.0 / (num_valid + eps)),
    }


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy over all pixels, differentiated while it is computed.

    Inputs are logits (N, C, h, w), labels (N, H, W), class weights (C,) or None,
    the ignored label and whether corners are aligned. Outputs are the sum, a scalar,
    and the number (1,) of pixels whose largest logit is that of their label, without
    ignored ones; it has no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None,
        ignore_index: int,
        align_corners: bool,
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.zeros_like(logits) if ctx.needs_input_grad[0] else None
        total = logits.new_zeros(())
        correct = logits.new_zeros(1)
        for images, rows in _chunks(len(labels), logits.shape[1], labels.shape[1:]):
            target = labels[images, rows]
            part = logits[images].detach().requires_grad_(gradient is not None)
            with (
                torch.set_grad_enabled(gradient is not None),
                torch.autocast(logits.device.type, enabled=False),
            ):
                upsampled = _upsample_rows(part, rows, labels.shape[1:], align_corners)
                # reduction='none' and a sum: inside its kernel CUDA sums in no fixed
                # order.
                loss = functional.cross_entropy(
                    upsampled,
                    target,
                    weight,
                    ignore_index=ignore_index,
                    reduction='none',
                ).sum()
            if gradient is not None:
                gradient[images] += torch.autograd.grad(loss, part)[0]
            total += loss.detach()
            is_hit = upsampled.detach().argmax(1) == target
            correct += (is_hit & (target != ignore_index)).sum()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_total: Tensor, grad_correct: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_total, None, None, None, None


def _chunks(
    num_images: int, num_classes: int, size: Sequence[int]
) -> Iterator[tuple[slice, slice]]:
    """As many whole images as fit a chunk, or else rows of one image."""
    height, width = size
    row_bytes = num_classes * width * 4
    num_rows = min(height, max(1, CHUNK_BYTES // row_bytes))
    step = max(1, CHUNK_BYTES // (row_bytes * height))
    for first in range(0, num_images, step):
        for top in range(0, height, num_rows):
            yield slice(first, first + step), slice(top, min(top + num_rows, height))


def _upsample_rows(
    logits: Tensor, rows: slice, size: Sequence[int], align_corners: bool
) -> Tensor:
    """Rows of ``interpolate(logits, size, mode='bilinear')``, without the others.

    Rows are mixed by hand, after the formula of `torch.nn.functional.interpolate`;
    columns by that function itself.
    """
    height = logits.shape[2]
    row = torch.arange(rows.start, rows.stop, device=logits.device).to(logits.dtype)
    if align_corners:
        source = row * ((height - 1) / max(size[0] - 1, 1))
    else:
        source = ((row + 0.5) * (height / size[0]) - 0.5).clamp(min=0)
    upper = source.long().clamp(max=height - 1)
    lower = (upper + 1).clamp(max=height - 1)
    between = torch.lerp(
        logits.index_select(2, upper),
        logits.index_select(2, lower),
        (source - upper)[:, None],
    )
    return functional.interpolate(
        between,
        size=(len(row), size[1]),
        mode='bilinear',
        align_corners=align_corners,
    )


def obstacle(head: nn.Module) -> str | None:
    """Why a head cannot use the chunked loss; None if it can."""
    if not isinstance(head, BaseDecodeHead):
        return f'{type(head).__name__} is not a BaseDecodeHead'
    if type(
        head
    ).loss_by_feat is not BaseDecodeHead.loss_by_feat or 'loss_by_feat' in vars(head):
        return f'{type(head).__name__} has a loss_by_feat of its own'
    if head.sampler is not None:
        return 'it has a sampler, which weights pixels by their logits'
    loss = head.loss_decode
    if type(loss) is not CrossEntropyLoss:
        return f'its loss_decode is {type(loss).__name__}'
    if loss.use_sigmoid or loss.use_mask:
        return 'its CrossEntropyLoss has use_sigmoid or use_mask set'
    if loss.reduction != 'mean':
        return f'its CrossEntropyLoss has reduction={loss.reduction!r}'
    return None
