"""Every backbone family can be probed, and its local gradients compared."""

import math

import pytest

from infopro_seg.information.gradients import compare_gradients, training_mode
from infopro_seg.information.probes import build_probes, train_probes
from infopro_seg.information.scores import score_probes
from infopro_seg.settings.localize import local_type
from infopro_seg.units import units_of
from tests.backbones import SIZE
from tests.helpers import batch, build, localized
from tests.models.heads import HEADS
from tests.samples import some_of
from tests.units.networks import SAMPLE, TRAINED, segmentor


def preprocessed(network, *, training):
    data = batch(size=SIZE)
    for sample in data['data_samples']:
        sample.set_metainfo({'ori_shape': SIZE, 'img_shape': SIZE})
    return network.data_preprocessor(data, training=training)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', some_of([*TRAINED, 'KNet', 'ocrnet-resnet'], *SAMPLE, 'ocrnet-resnet')
)
def test_a_family_is_probed(name):
    config = HEADS[name] if name in HEADS else segmentor(name)
    config['data_preprocessor']['size'] = SIZE
    local = localized(config, num_modules=2)
    network = build({**local, 'type': local_type(config['type'])})
    network.eval()
    units = [unit.name for unit in units_of(network.backbone)]
    probes = build_probes(network, [units[0], units[-1]])
    data = preprocessed(network, training=True)
    constants = train_probes(network, probes, [data, data], 1)
    validation = [preprocessed(network, training=False)]
    found = score_probes(network, probes, constants, validation)
    assert [entry['unit'] for entry in found['boundaries']] == [units[0], units[-1]]
    for entry in found['boundaries']:
        assert all(math.isfinite(v) for v in entry.values() if v != entry['unit'])
    with training_mode(network):
        rows = compare_gradients(network, [data])
    assert {row['module'] for row in rows} == {'local_0'}
    assert all(-1 <= row['cosine']['mean'] <= 1 for row in rows)
