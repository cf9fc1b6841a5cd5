"""What the monitor reports is right, and it changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from infopro_seg.engine import LocalModuleMonitorHook
from infopro_seg.report.run_log import read_run
from tests.engine.runs import MODEL, assert_same_checkpoint, loader, runner_of

DEFAULT_RUNTIME = (
    Path(__file__).parents[2] / 'configs' / '_base_' / 'default_runtime.py'
)
MODULES = ('local_0', 'local_1', 'local_2')


def run(work_dir, interval=1, iterations=2, **settings):
    hook = {'type': 'LocalModuleMonitorHook', 'interval': interval}
    runner = runner_of(work_dir, iterations=iterations, hooks=[hook], **settings)
    runner.train()
    return runner


def scalar(runner, name):
    return runner.message_hub.get_scalar(f'train/{name}').current()


def test_training_is_the_same_with_and_without_it(tmp_path):
    run(tmp_path / 'with')
    runner = run(tmp_path / 'without', interval=0)
    assert_same_checkpoint(
        tmp_path / 'with' / 'iter_2.pth', tmp_path / 'without' / 'iter_2.pth'
    )
    names = runner.message_hub.log_scalars
    assert not any(name.endswith('.seconds') for name in names)


def test_all_quantities_of_all_modules_reach_the_json_log(tmp_path):
    run(tmp_path)
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    entry = json.loads(log.read_text().splitlines()[0])
    for name in MODULES:
        for quantity in ('seconds', 'saved_gib', 'grad_norm'):
            assert entry[f'{name}.{quantity}'] > 0


def test_gradient_norms_add_up_to_that_of_the_whole_network(tmp_path):
    # A limit far above changes no gradient.
    runner = run(tmp_path, optim_wrapper={'clip_grad': {'max_norm': 1e9}})
    squares = [scalar(runner, f'{name}.grad_norm') ** 2 for name in MODULES]
    # Sums of float32 in another order.
    assert sum(squares) ** 0.5 == pytest.approx(scalar(runner, 'grad_norm'), rel=1e-5)


def test_recompute_is_seen_in_what_is_kept(tmp_path):
    plain = run(tmp_path / 'plain')
    model = {**MODEL, 'local': {**MODEL['local'], 'recompute': 'all'}}
    lean = run(tmp_path / 'lean', model=model)
    for name in MODULES[:2]:
        kept = [scalar(runner, f'{name}.saved_gib') for runner in (plain, lean)]
        assert kept[1] < 0.8 * kept[0]


def test_saved_bytes_are_those_of_the_storages(tmp_path):
    hook = LocalModuleMonitorHook()
    hook._ignored = set()
    saved = {}
    base = torch.zeros(8, 4)
    for tensor in (base, base[2:], base.t(), torch.zeros(3)):
        assert hook._count(saved, tensor) is tensor
    assert sum(saved.values()) == 4 * (8 * 4 + 3)


def test_the_middle_iterations_are_measured(tmp_path):
    runner = run(tmp_path, interval=3, iterations=6)
    seconds = runner.message_hub.get_scalar('train/local_0.seconds')
    assert len(seconds.data[0]) == 2
    # It is the second and the fifth.
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    values = [json.loads(line).get('local_0.seconds') for line in log.open()]
    assert values[0] is None
    assert len(set(values[1:4])) == 1
    assert values[4] == values[5] != values[3]


def test_epochs_do_not_start_the_count_again(tmp_path):
    # Four batches an epoch; the middle of the second three is in the second epoch.
    runner = run(
        tmp_path,
        interval=3,
        train_cfg={'type': 'EpochBasedTrainLoop', 'max_epochs': 2},
        train_dataloader=loader(sampler='DefaultSampler'),
    )
    seconds = runner.message_hub.get_scalar('train/local_0.seconds')
    assert runner.iter == 8
    assert len(seconds.data[0]) == 3


def test_a_network_without_walls_is_one_module(tmp_path):
    model = {**MODEL, 'local': {'num_modules': 1}}
    runner = run(tmp_path, model=model)
    assert scalar(runner, 'local_0.grad_norm') > 0
    assert 'train/local_1.seconds' not in runner.message_hub.log_scalars


def test_steps_only_have_gradient_norms(tmp_path):
    runner = run(tmp_path, iterations=4, optim_wrapper={'accumulative_counts': 2})
    norms = runner.message_hub.get_scalar('train/local_0.grad_norm')
    assert len(norms.data[0]) == 2


def test_nothing_is_left_behind(tmp_path):
    runner = run(tmp_path)
    assert runner.model.watchers == ()
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_the_default_configs_have_it_and_an_override_switches_it_off():
    cfg = Config.fromfile(DEFAULT_RUNTIME)
    entry = {'type': 'LocalTrainingHook', 'monitor_interval': 50}
    assert cfg.custom_hooks == [entry]
    # As --cfg-options does it; docs/reliability.md and the config name the index.
    cfg.merge_from_dict({'custom_hooks.0.monitor_interval': 0})
    assert cfg.custom_hooks == [{**entry, 'monitor_interval': 0}]


def test_a_report_finds_the_numbers_of_every_module(tmp_path):
    run(tmp_path, iterations=3)
    series = read_run(tmp_path).series
    for quantity in ('saved_gib', 'seconds', 'grad_norm'):
        assert {f'local_0.{quantity}', f'local_1.{quantity}'} <= series.keys()


def test_a_negative_interval_is_refused():
    with pytest.raises(ValueError, match='interval=-1 must be 0'):
        LocalModuleMonitorHook(interval=-1)
