"""What cannot be simulated is named, and training does without a plan."""

import re
import sys

import pytest
import torch

from infopro_seg.cli.run import run
from infopro_seg.planner.make import Setting, make_plan
from infopro_seg.planner.profile.fake_step import track_step
from infopro_seg.planner.profile.simulation import SimulationError
from tests.helpers import build, losses_of
from tests.planner.networks import tiny
from tests.planner.stubborn import stubborn
from tests.samples import some_of

CROP = (32, 64)
WHERE = r'line \d+ of .*stubborn\.py'
# What stops, and how its place is told.
CULPRITS = {
    'NumpyForwardAct': r'backbone\.layer2\.0\.relu \(NumpyForwardAct\) in .*forward',
    # Nobody knows which module it belongs to: autograd runs it.
    'NumpyBackwardAct': r'.*backward',
    'ForeignAct': r'backbone\.layer2\.0\.relu \(ForeignAct\) in .*forward',
    'HalvingAct': r'backbone\.layer2\.0\.relu \(HalvingAct\) in .*forward',
    'SlicingAct': r'backbone\.layer2\.0\.conv2 \(Conv2d\) in .*forward',
}
REASONS = {
    'NumpyForwardAct': 'numpy',
    'NumpyBackwardAct': 'numpy',
    'ForeignAct': r'stubborn[.:]+twice',
    'HalvingAct': 'a loop that ends by the value of a tensor does not end here',
    'SlicingAct': 'channels',
}


def plan(model, optimizer='SGD'):
    wrapper = {'type': 'OptimWrapper', 'optimizer': {'type': optimizer, 'lr': 0.1}}
    setting = Setting(model, 2, CROP, optim_wrapper=wrapper)
    return make_plan(setting, num_modules=2, verify=False)


@pytest.mark.slow
@pytest.mark.parametrize('act', some_of(CULPRITS, list(CULPRITS)[0]))
def test_a_module_that_cannot_be_simulated_is_named(act):
    with pytest.raises(SimulationError) as caught:
        plan(stubborn(act))
    said = str(caught.value)
    assert re.search(f'cannot be simulated: {CULPRITS[act]}', said)
    assert act == 'SlicingAct' or re.search(WHERE, said)
    assert re.search(REASONS[act], said)
    assert 'local=dict(splits=[...]) or local=dict(num_modules=K)' in said
    assert '\n' not in said


@pytest.mark.parametrize('setting', [{'splits': ['layer2.0']}, {'num_modules': 3}])
@pytest.mark.parametrize('act', [*CULPRITS, 'BranchingAct'])
@pytest.mark.filterwarnings('ignore:num_modules=3 cuts into equal numbers')
@pytest.mark.filterwarnings('ignore:.*an autograd kernel was not registered')
def test_it_trains_all_the_same(act, setting):
    model = stubborn(act)
    model['local'] = setting
    network = build(model)
    assert len(network.local_modules) > 1
    total = network.parse_losses(losses_of(network))[0]
    total.backward()
    assert torch.isfinite(total)


def test_a_step_that_cannot_be_simulated_is_named_likewise():
    # Where the network was measured before, and costs come from the cache.
    model = stubborn('NumpyForwardAct')
    with pytest.raises(SimulationError, match=CULPRITS['NumpyForwardAct']):
        track_step(model, batch_size=2, crop_size=CROP)


def test_an_optimizer_that_cannot_be_simulated_is_named():
    with pytest.raises(SimulationError) as caught:
        plan(tiny(), 'NumpySGD')
    said = str(caught.value)
    assert re.search(rf'optimizer NumpySGD in .*update, {WHERE} stops', said)


@pytest.mark.slow
def test_who_reads_a_value_is_said_with_the_plan():
    said = '\n'.join(plan(stubborn('BranchingAct')).assumptions)
    assert 'taken as 0.5, 1 or true' in said
    assert re.search(rf'read by BranchingAct in forward, {WHERE}', said)
    assert 'optimizer' not in said


@pytest.mark.exhaustive
def test_so_it_is_of_an_optimizer():
    said = '\n'.join(plan(tiny(), 'NormReadingSGD').assumptions)
    assert re.search(rf'read by optimizer NormReadingSGD in update, {WHERE}', said)


@pytest.mark.slow
@pytest.mark.parametrize('tool', some_of(['plan', 'benchmark', 'train'], 'plan'))
def test_a_tool_ends_with_the_culprit(tool, tmp_path, monkeypatch, capsys):
    model = stubborn('NumpyForwardAct')
    model['data_preprocessor'] = {**model['data_preprocessor'], 'size': CROP}
    model['local'] = {'gpu_memory': '8GiB'} if tool == 'train' else {}
    config = tmp_path / 'stubborn.py'
    config.write_text(
        "default_scope = 'mmseg'\n"
        f'model = {model!r}\n'
        "custom_imports = dict(imports=['tests.planner.stubborn'])\n"
        'train_dataloader = dict(batch_size=2)\n'
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1))\n"
    )
    arguments = {
        'plan': ['--num-modules', '2'],
        'benchmark': ['--steps', '0'],
        'train': ['--work-dir', str(tmp_path / 'run')],
    }
    monkeypatch.setattr(sys, 'argv', [tool, str(config), *arguments[tool]])
    monkeypatch.delenv('INFOPRO_SEG_DEBUG', raising=False)
    assert run(tool) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('SimulationError: a training step cannot be simulated')
    assert 'backbone.layer2.0.relu (NumpyForwardAct)' in last
