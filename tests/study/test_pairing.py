"""All methods of a seed start from the same network and see the same images."""

import hashlib

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from infopro_seg.study.job import Places, jobs_of, method_config, run_config
from infopro_seg.study.matrix import read_study
from infopro_seg.study.start import initial_weights, write_initial_weights

METHODS = [
    {'name': 'end-to-end', 'local': {'splits': []}},
    {'name': 'exact', 'local': {'num_modules': 3, 'end_to_end_every': 1}},
    {'name': 'InfoPro', 'local': {'num_modules': 3}},
    {'name': 'greedy', 'local': {'num_modules': 2, 'head.reconstruction': None}},
    {'name': 'dial', 'local': {'num_modules': 2, 'end_to_end_every': 2}},
    {
        'name': 'no auxiliary head',
        'local': {'splits': []},
        'options': {'model.auxiliary_head': None},
    },
]


class Witness(Hook):
    """Keeps the weights before the first step, and what every batch holds."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.batches:
            self.start = copied(runner.model)
        hashed = hashlib.sha256()
        samples = [sample.gt_sem_seg.data for sample in data_batch['data_samples']]
        for tensor in (*data_batch['inputs'], *samples):
            hashed.update(tensor.numpy().tobytes())
        self.batches.append(hashed.hexdigest())


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def trained(job, places):
    cfg = run_config(job, places, write_initial_weights(job, places))
    runner = Runner.from_cfg(cfg)
    witness = Witness()
    runner.register_hook(witness)
    runner.train()
    return witness, copied(runner.model)


@pytest.mark.exhaustive
def test_methods_share_weights_and_data_of_a_seed(content, write, tmp_path):
    content.update(rows=METHODS, seeds=[5], iterations=3, validation_interval=3)
    content.update(checkpoint_interval=3)
    jobs = jobs_of(read_study(write(content)))
    places = Places(tmp_path / 'out', tmp_path / 'results')
    runs = {job.row.name: trained(job, places) for job in jobs}
    reference, end = runs['end-to-end']
    for name, (witness, _) in runs.items():
        assert len(witness.batches) == 3
        assert witness.batches == reference.batches, name
        shared = witness.start.keys() & reference.start.keys()
        others = witness.start.keys() ^ reference.start.keys()
        begin = 'auxiliary_head.' if name == 'no auxiliary head' else 'local_heads.'
        assert all(key.startswith(begin) for key in others), name
        assert len(shared) > 100
        for key in shared:
            assert torch.equal(witness.start[key], reference.start[key]), (name, key)
    assert any(key.startswith('local_heads.') for key in runs['InfoPro'][0].start)
    # Not only the start: every digit to the end.
    exact = runs['exact'][1]
    assert exact.keys() == end.keys()
    assert all(torch.equal(exact[key], end[key]) for key in end)
    assert not torch.equal(
        runs['InfoPro'][1]['backbone.layer1.0.conv1.weight'],
        end['backbone.layer1.0.conv1.weight'],
    )


def test_a_part_is_initialised_by_seed_and_name_alone(content, write):
    content['rows'] = METHODS
    study = read_study(write(content))
    configs = [method_config(row).model.to_dict() for row in study.rows]
    before = torch.get_rng_state()
    whole = initial_weights(configs[0], 4)
    without = initial_weights(configs[-1], 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert without.keys() < whole.keys()
    assert all(torch.equal(without[key], whole[key]) for key in without)
    other = initial_weights(configs[0], 5)
    key = 'decode_head.conv_seg.weight'
    assert not torch.equal(other[key], whole[key])
    assert whole[key].std() > 0


def test_pretrained_weights_reach_the_backbone(content, write, tmp_path):
    model = method_config(read_study(write(content)).rows[0]).model.to_dict()
    key = 'layer1.0.conv1.weight'
    weights = initial_weights(model, 0)
    given = torch.full_like(weights[f'backbone.{key}'], 0.5)
    torch.save({'state_dict': {key: given}}, tmp_path / 'weights.pth')
    loaded = initial_weights(model, 0, str(tmp_path / 'weights.pth'))
    assert torch.equal(loaded[f'backbone.{key}'], given)
    heads = [name for name in weights if not name.startswith('backbone.')]
    assert heads and all(torch.equal(loaded[n], weights[n]) for n in heads)
    torch.save({'state_dict': {'other': given}}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='no weight of .*other.pth has a name of'):
        initial_weights(model, 0, str(tmp_path / 'other.pth'))
