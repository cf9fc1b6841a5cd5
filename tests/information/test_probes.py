"""Probes on networks whose mutual information is known."""

import math

import pytest
import torch
from torch.nn import functional

from infopro_seg.information.boundaries import probed_boundaries
from infopro_seg.information.network import feature_maps
from infopro_seg.information.probes import (
    build_probes,
    num_batches,
    train_heads,
    train_probes,
)
from infopro_seg.information.scores import (
    Score,
    image_information_bits,
    label_information_bits,
    score_probes,
)
from tests.information.toys import batches, toy_network

# Four colours, equally frequent.
ENTROPY_BITS = 2.0


def probed(kind, num_iterations=100, names=('unit.2',)):
    network = toy_network(kind)
    probes = build_probes(network, names)
    data = batches(network, num_batches(num_iterations), training=True)
    constants = train_probes(network, probes, data, num_iterations)
    # Other images than those of training.
    val = batches(network, 10, training=False, first=1000)
    found = score_probes(network, probes, constants, val)
    return found['constant'], {b['unit']: b for b in found['boundaries']}


def test_units_that_change_nothing_lose_nothing():
    constant, found = probed('identity')
    scores = found['unit.2']
    assert scores['label_information_bits'] > 0.95 * ENTROPY_BITS
    assert scores['miou'] > 99
    assert scores['reconstruction_mse'] < 0.05 * constant['reconstruction_mse']
    # 20 times less error in each of three channels.
    assert scores['image_information_bits'] > 3 * math.log2(20) / 2
    assert constant['label_entropy_bits'] == pytest.approx(ENTROPY_BITS, abs=0.02)
    assert constant['cross_entropy_bits'] == pytest.approx(ENTROPY_BITS, abs=0.05)
    # Three channels of 200 or 60 in 255, 200 in a quarter of the pixels.
    variance = 0.25 * 0.75 * (140 / 255) ** 2
    assert constant['reconstruction_mse'] == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize('kind', ['constant', 'noise'])
def test_a_unit_that_ignores_the_image_loses_all(kind):
    constant, found = probed(kind, num_iterations=50)
    lost = found['unit.2']
    assert lost['label_information_bits'] < 0.03
    assert lost['image_information_bits'] < 0.03
    assert lost['cross_entropy_bits'] == pytest.approx(
        constant['cross_entropy_bits'], abs=0.03
    )
    assert lost['reconstruction_mse'] == pytest.approx(
        constant['reconstruction_mse'], rel=0.05
    )


def test_probes_do_not_depend_on_each_other():
    names = ('unit.1', 'unit.2')
    both = probed('identity', num_iterations=3, names=names)[1]['unit.2']
    alone = probed('identity', num_iterations=3)[1]['unit.2']
    assert both == alone


def test_the_network_is_not_changed():
    network = toy_network('identity')
    before = {k: v.clone() for k, v in network.state_dict().items()}
    probes = build_probes(network, ['unit.0'])
    train_heads(network, probes, batches(network, 2, training=True), 2)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not network.training
    assert all(p.grad is None for p in network.parameters())


def test_maps_are_given_before_the_next_unit_changes_them():
    network = toy_network('identity')
    network.backbone.unit[1] = torch.nn.ReLU(inplace=True)
    image = -torch.ones(1, 3, 4, 4)
    for name, feature_map in feature_maps(network, image, ['unit.0', 'unit.1']):
        assert not feature_map.requires_grad
        assert feature_map.mean() == {'unit.0': -1, 'unit.1': 0}[name]


def test_a_network_that_diverged_is_told():
    network = toy_network('identity')
    network.backbone.unit[2] = torch.nn.BatchNorm2d(3)
    network.backbone.unit[2].weight.data.fill_(float('nan'))
    network.eval()
    probes = build_probes(network, ['unit.2'])
    with pytest.raises(ValueError, match=r'reads unit\.2 is nan: .* diverged'):
        train_heads(network, probes, batches(network, 1, training=True), 1)


def test_scores_are_those_of_their_definitions():
    logits, label = torch.randn(3, 4, 6), torch.randint(0, 3, (4, 6))
    label[0] = 255
    score = Score(3, 255)
    score.add_labels(logits, label)
    image, valid = torch.rand(2, 3, 4, 6), torch.ones(2, 1, 4, 6, dtype=torch.bool)
    valid[0, :, :, 3:] = False
    reconstruction = torch.randn(2, 3, 4, 6)
    score.add_image(reconstruction, image, valid)
    found = score.summary()
    seen = label != 255
    probability = logits.softmax(0).gather(0, label.where(seen, 0)[None])[0][seen]
    assert found['cross_entropy_bits'] == pytest.approx(
        -probability.log2().mean().item(), rel=1e-5
    )
    predicted = logits.argmax(0)[seen]
    ious = [
        ((predicted == c) & (label[seen] == c)).sum()
        / ((predicted == c) | (label[seen] == c)).sum()
        for c in range(3)
    ]
    assert found['miou'] == pytest.approx(100 * sum(ious).item() / 3, rel=1e-5)
    counts = label[seen].bincount(minlength=3) / seen.sum()
    entropy = -(counts * counts.log2()).nansum().item()
    assert score.label_entropy_bits() == pytest.approx(entropy, rel=1e-5)
    chosen = valid.expand_as(image)
    nats = functional.binary_cross_entropy(
        reconstruction.sigmoid()[chosen], image[chosen]
    )
    assert found['reconstruction_bce'] == pytest.approx(nats.item(), rel=1e-5)
    mse = functional.mse_loss(reconstruction.sigmoid()[chosen], image[chosen])
    assert found['reconstruction_mse'] == pytest.approx(mse.item(), rel=1e-5)


def test_bits_by_hand_and_none_below_zero():
    image = torch.full((1, 3, 2, 2), 0.5)
    valid = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    label = torch.zeros(2, 2, dtype=torch.long)

    def score(error, probability):
        made = Score(2, 255)
        made.add_image((image + error).logit(), image, valid)
        both = torch.tensor([probability, 1 - probability]).log()
        made.add_labels(both[:, None, None].expand(2, 2, 2), label)
        return made

    constant, probe = score(0.4, 0.25), score(0.1, 0.5)
    # A sixteenth of the squared error: 2 bits in each of three channels.
    assert image_information_bits(probe, constant) == pytest.approx(6, rel=1e-4)
    assert label_information_bits(probe, constant) == pytest.approx(1, rel=1e-4)
    assert image_information_bits(constant, probe) == 0
    assert label_information_bits(constant, probe) == 0
    # Errors below the rounding of the image prove no more than the rounding.
    perfect = score(1e-6, 1.0)
    most = 3 * math.log2(0.4**2 * 12 * 255**2) / 2
    assert image_information_bits(perfect, constant) == pytest.approx(most, rel=1e-4)


def test_boundaries():
    names = [f'layer{i}' for i in range(1, 19)]
    assert probed_boundaries(names)[-1] == 'layer18'
    assert len(probed_boundaries(names)) == 9
    assert probed_boundaries(names[:3]) == ('layer1', 'layer2', 'layer3')
    assert probed_boundaries(names[:1]) == ('layer1',)
    assert probed_boundaries(names, ['layer3', 'layer1']) == ('layer1', 'layer3')
    with pytest.raises(ValueError, match=r"--boundaries: split 'layer99' .*Nearest"):
        probed_boundaries(names, ['layer99'])
