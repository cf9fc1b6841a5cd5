"""Agreement of local and end-to-end gradients, against plain autograd."""

import copy

import pytest
import torch
from torch.nn.functional import cosine_similarity

from infopro_seg.information.gradients import (
    agreement,
    compare_gradients,
    heads_by_unit,
    load_local_heads,
    loss_kinds,
    training_mode,
)
from infopro_seg.information.probes import LEARNING_RATE, train_heads
from tests.helpers import BN, NARROW, WIDTHS, batch, build, deeplabv3, localized

FCN = {
    'type': 'FCNHead',
    'channels': 8,
    'num_convs': 1,
    'concat_input': False,
    'dropout_ratio': 0.0,
    'norm_cfg': BN,
    'loss_decode': {'type': 'CrossEntropyLoss', 'use_sigmoid': False},
}


def stock(auxiliary=None):
    backbone = NARROW
    config = deeplabv3(backbone, WIDTHS, auxiliary=auxiliary)
    last = {'in_channels': 64, 'in_index': 3, 'num_classes': 5, 'align_corners': False}
    config['decode_head'] = {**copy.deepcopy(FCN), **last}
    if auxiliary is not None:
        config['auxiliary_head']['dropout_ratio'] = 0.0
    return config


def ready(network, num=1):
    return [network.data_preprocessor(batch(seed=i), training=True) for i in range(num)]


def row_of(rows, loss='local head', module='local_0'):
    (row,) = [r for r in rows if (r['loss'], r['module']) == (loss, module)]
    return row


@pytest.mark.parametrize('weight', [1.0, 2.0])
def test_a_head_that_is_the_rest_of_the_network_agrees_with_it(weight):
    head = {'reconstruction': None, 'segmentation': copy.deepcopy(FCN)}
    network = build(
        localized(
            stock(),
            splits=['layer4.1'],
            head=head,
            weights={'segmentation': (weight, weight)},
        )
    )
    local = network.local_heads[0].segmentation
    local.load_state_dict(network.decode_head.state_dict())
    with training_mode(network):
        (row,) = compare_gradients(network, ready(network, num=3))
    assert (row['module'], row['unit']) == ('local_0', 'layer4.1')
    assert row['loss'] == 'segmentation'
    # Equal up to rounding: the local loss is taken in chunks.
    assert row['cosine']['mean'] == pytest.approx(1, abs=1e-5)
    assert row['norm_ratio']['mean'] == pytest.approx(weight, rel=1e-4)
    assert row['cosine']['deviation'] < 1e-5


def test_a_head_that_looks_ahead_is_trained_on_what_it_sees():
    """As by hand: one step of Adam on the map behind the next unit."""
    head = {'reconstruction': None, 'look_ahead': 1, 'segmentation': {'loss_stride': 1}}
    network = build(localized(stock(), splits=['layer2.1'], head=head)).eval()
    (batch,) = ready(network)
    restated = copy.deepcopy(network)
    (own,), (segmentation,) = network.local_heads, restated.local_heads
    before = {k: v.clone() for k, v in network.backbone.state_dict().items()}
    train_heads(
        network, {'layer2.1': own}, [batch], 1, {'layer2.1': network.units_ahead[0]}
    )
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    # layer2 and the first unit of layer3, which is twice as wide.
    backbone = restated.backbone
    with torch.no_grad():
        x = backbone.maxpool(backbone.stem(batch['inputs']))
        ahead = backbone.layer3[0](backbone.layer2(backbone.layer1(x)))
    assert ahead.shape[1] == WIDTHS[2]
    optimizer = torch.optim.Adam(segmentation.parameters(), lr=LEARNING_RATE)
    losses = segmentation.segmentation.loss(
        (ahead,), batch['data_samples'], network.train_cfg
    )
    network.parse_losses(losses)[0].backward()
    optimizer.step()
    for name, value in segmentation.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], value, msg=name)


def test_against_plain_autograd_on_the_stock_network():
    splits = ['layer2.1', 'layer3.0']
    network = build(localized(stock(auxiliary=1), splits=splits))
    plain = build(stock(auxiliary=1))
    weights = network.state_dict()
    plain.load_state_dict({k: weights[k] for k in plain.state_dict()})
    (data,) = ready(network)
    inputs, samples = data['inputs'], data['data_samples']
    image = network.reconstruction_target(inputs, samples)
    heads = copy.deepcopy(network.local_heads)
    with training_mode(network):
        rows = compare_gradients(network, [data])

    stages = ('stem', 'layer1', 'layer2')
    own = [
        [p for n, p in plain.backbone.named_parameters() if n.startswith(stages)],
        list(plain.backbone.layer3[0].parameters()),
    ]
    total, _ = plain.parse_losses(plain.loss(inputs, samples))
    exact = [torch.autograd.grad(total, p, retain_graph=True) for p in own]
    outputs = plain.backbone(inputs)
    # Behind a wall.
    after = plain.backbone.layer3[0](outputs[1].detach())
    for module, (feature_map, parameters) in enumerate(
        zip((outputs[1], after), own, strict=True)
    ):
        losses = heads[module].loss(feature_map, image, samples, None)
        parts = {'reconstruction': losses['loss_recon']}
        parts['segmentation'] = losses['loss_seg']
        parts['local head'] = losses['loss_recon'] + losses['loss_seg']
        if module == 0:
            auxiliary = plain.auxiliary_head.loss(outputs, samples, None)['loss_ce']
            parts['auxiliary heads'] = auxiliary
            parts['all losses'] = parts['local head'] + auxiliary
        for loss, value in parts.items():
            found = torch.autograd.grad(value, parameters, retain_graph=True)
            local, end_to_end = (
                torch.cat([g.flatten() for g in grads]).double()
                for grads in (found, exact[module])
            )
            row = row_of(rows, loss, f'local_{module}')
            cosine = cosine_similarity(local, end_to_end, dim=0).item()
            # Single precision, and losses in chunks.
            assert row['cosine']['mean'] == pytest.approx(cosine, abs=1e-4)
            ratio = (local.norm() / end_to_end.norm()).item()
            assert row['norm_ratio']['mean'] == pytest.approx(ratio, rel=1e-4)
            assert row['cosine']['deviation'] is None
    assert len(rows) == 5 + 3


def test_measuring_changes_nothing_of_the_network():
    network = build(localized(stock(), splits=['layer2.1'], deep_supervision=True))
    network.eval()
    before = {
        k: v.clone()
        for k, v in network.state_dict().items()
        if not k.startswith('local_heads.')
    }
    random = torch.get_rng_state()
    with training_mode(network):
        compare_gradients(network, ready(network))
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert not network.training and not network.backbone.training
    assert not network.is_end_to_end and network.deep_supervision
    assert network.local_backward is None


def test_modules_without_trainable_weights_are_left_out():
    config = stock()
    config['backbone']['frozen_stages'] = 2
    network = build(localized(config, splits=['layer1.1', 'layer3.0']))
    with training_mode(network):
        rows = compare_gradients(network, ready(network))
    assert {row['module'] for row in rows} == {'local_1'}


def test_local_heads_come_from_a_checkpoint_with_the_same_walls():
    trained = build(localized(stock(), splits=['layer2.1']), seed=3)
    network = build(localized(stock(), splits=['layer2.1']))
    meta = {'local': {'splits': ['layer2.1'], 'recompute': []}}
    checkpoint = {'state_dict': trained.state_dict(), 'meta': meta}
    assert load_local_heads(network, checkpoint)
    own = network.local_heads.state_dict()
    given = trained.local_heads.state_dict()
    assert all(torch.equal(own[k], given[k]) for k in given)
    other = build(localized(stock(), splits=['layer2.0']))
    assert not load_local_heads(other, checkpoint)
    paper = build(localized(stock(), splits=['layer2.1'], head={'preset': 'paper'}))
    assert not load_local_heads(paper, checkpoint)
    assert not load_local_heads(network, {'state_dict': trained.state_dict()})


def test_a_network_without_walls_has_no_local_gradients():
    network = build(localized(stock(), splits=[]))
    with pytest.raises(ValueError, match='has none: add --local num_modules=4'):
        heads_by_unit(network)


def test_agreement_by_hand():
    cosine, ratio = agreement(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert cosine == pytest.approx(2**-0.5)
    assert ratio == pytest.approx(3 * 2**-0.5)
    assert agreement(torch.zeros(2), torch.ones(2)) == (0.0, 0.0)
    assert agreement(torch.ones(2), torch.zeros(2)) == (0.0, float('inf'))
    kinds = loss_kinds({'segmentation': torch.ones(2)})
    assert list(kinds) == ['segmentation']
