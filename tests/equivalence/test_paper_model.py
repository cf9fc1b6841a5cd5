"""Contract: the `paper` preset at K=2 is the reference's algorithm."""

import copy

import pytest
import torch

from tests.helpers import batch, build, deeplabv3, localized, resnet
from tests.reference.infopro_k2 import (
    ReferenceHeads,
    copy_head_weights,
    paired_parameters,
    reference_step,
    stack_labels,
)

# Two orders of summation in float32: the sigmoid and the logits form of the
# cross-entropy differ in the last digits, and gradients pass through BatchNorm.
LOSS = {'rtol': 1e-5, 'atol': 1e-6}
GRADIENT = {'rtol': 1e-3, 'atol': 1e-5}


def models(backbone, widths, split):
    ours = build(
        localized(
            deeplabv3(backbone, widths),
            splits=[split],
            head={'preset': 'paper'},
            weights={'reconstruction': (1.5, 1.5), 'segmentation': (0.1, 0.1)},
        )
    )
    stock = build(deeplabv3(backbone, widths))
    missing, unexpected = stock.load_state_dict(ours.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith('local_heads.') for name in unexpected)
    heads = ReferenceHeads(widths[2], num_classes=5).train()
    copy_head_weights(ours.local_heads[0], heads)
    # Dropout draws would pair up differently.
    for module in [*ours.modules(), *stock.modules(), *heads.modules()]:
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    return ours, stock, heads


@pytest.mark.slow
@pytest.mark.parametrize(
    ('backbone', 'widths', 'cut'),
    [
        (resnet(18), (64, 128, 256, 512), (3, 0)),
        (resnet(101, base_channels=8), (32, 64, 128, 256), (3, 12)),
    ],
    ids=['resnet18', 'narrow resnet101 at layer3.12'],
)
def test_losses_and_gradients_equal_the_restated_reference(backbone, widths, cut):
    split = f'layer{cut[0]}.{cut[1]}'
    ours, stock, heads = models(backbone, widths, split)
    raw = batch(num=3)
    data = ours.data_preprocessor(copy.deepcopy(raw), training=True)
    losses = ours.loss(**data)
    ours.parse_losses(losses)[0].backward()
    preprocessor = stock.data_preprocessor
    expected = reference_step(
        stock.backbone,
        stock.decode_head,
        stock.auxiliary_head,
        heads,
        cut,
        (data['inputs'], stack_labels(data['data_samples'])),
        (1.5, 0.1),
        preprocessor.mean,
        preprocessor.std,
    )
    names = {
        'recon': 'local_0.loss_recon',
        'seg': 'local_0.loss_seg',
        'decode': 'decode.loss_ce',
        'aux': 'aux.loss_ce',
    }
    for theirs, name in names.items():
        torch.testing.assert_close(losses[name].detach(), expected[theirs], **LOSS)
    for name, parameter in stock.named_parameters():
        gradient = dict(ours.named_parameters())[name].grad
        torch.testing.assert_close(gradient, parameter.grad, **GRADIENT, msg=name)
    for left, right in paired_parameters(ours.local_heads[0], heads):
        torch.testing.assert_close(left.grad, right.grad, **GRADIENT)
