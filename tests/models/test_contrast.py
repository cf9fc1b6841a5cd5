"""The pixel-wise supervised contrastive loss."""

import pytest
import torch
from torch.nn import functional

from infopro_seg.models.heads.contrast import (
    PixelContrastHead,
    sample_pixels,
    supervised_contrast,
)
from tests.helpers import batch, build, deeplabv3, localized, losses_of


def plain_contrast(embeddings, labels, temperature):
    """Khosla et al., equation 2, pixel by pixel."""
    losses = []
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if j != i]
        positive = [j for j in others if labels[j] == labels[i]]
        if not positive:
            continue
        scores = {j: embeddings[i].dot(embeddings[j]) / temperature for j in others}
        total = torch.stack(list(scores.values())).exp().sum().log()
        losses.append(torch.stack([total - scores[j] for j in positive]).mean())
    return torch.stack(losses).mean()


def test_loss_and_gradient_equal_the_formula():
    torch.manual_seed(0)
    embeddings = functional.normalize(torch.randn(9, 6, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 3])
    results = []
    for loss in (supervised_contrast, plain_contrast):
        x = embeddings.clone().requires_grad_()
        value = loss(x, labels, 0.5)
        value.backward()
        results.append((value.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize('labels', [[], [0], [0, 1, 2]])
def test_pixels_without_a_partner_give_zero_loss_and_gradient(labels):
    embeddings = torch.randn(len(labels), 4, requires_grad=True)
    loss = supervised_contrast(embeddings, torch.tensor(labels).long(), 0.07)
    loss.backward()
    assert loss.item() == 0
    assert not embeddings.grad.any()


def test_sampling_is_bounded_per_class_and_skips_ignored_pixels():
    labels = torch.tensor([0] * 50 + [1] * 3 + [-1] * 20 + [4] * 9)
    chosen = labels[sample_pixels(labels, num_classes=5, max_per_class=5)]
    counts = {c: int((chosen == c).sum()) for c in (-1, 0, 1, 4)}
    assert counts == {-1: 0, 0: 5, 1: 3, 4: 5}


def test_it_trains_a_local_module_in_place_of_cross_entropy():
    model = build(
        localized(deeplabv3(), head={'segmentation': {'type': 'PixelContrastHead'}})
    )
    losses = losses_of(model)
    losses['local_0.loss_seg'].backward()
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0
    assert losses['local_0.loss_seg'] > 0


def test_an_ignored_image_gives_a_zero_loss():
    head = PixelContrastHead(8, num_classes=5)
    data = batch()
    for sample in data['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    loss = head.loss((torch.randn(2, 8, 8, 8),), data['data_samples'], None)
    assert loss['loss_seg'].item() == 0


def test_embeddings_are_unit_vectors_of_128_dimensions():
    embeddings = PixelContrastHead(8, num_classes=5)((torch.randn(2, 8, 4, 4),))
    assert embeddings.shape == (2, 128, 4, 4)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2, 4, 4))


def test_too_few_pixels_are_refused():
    with pytest.raises(ValueError, match='max_pixels=30 .* 19 classes.* at least 38'):
        PixelContrastHead(8, num_classes=19, max_pixels=30)
