"""Runs of mmengine's Runner on a GPU."""

import pytest
import torch
from torch import nn

from infopro_seg.checkpoints.files import last_whole_checkpoint
from tests.engine.runs import Killed, KillHook, runner_of
from tests.equivalence.test_hook_equals_sum import MODEL
from tests.helpers import assert_equal
from tests.runs import run_training

AMP = {'type': 'AmpOptimWrapper', 'dtype': 'float16'}


def weights(runner):
    return {name: value.cpu() for name, value in runner.model.state_dict().items()}


def test_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path, device):
    whole = runner_of(tmp_path / 'whole')
    whole.train()
    killed = runner_of(tmp_path / 'killed', hooks=[KillHook(3)])
    with pytest.raises(Killed):
        killed.train()
    checkpoint, _ = last_whole_checkpoint(tmp_path / 'killed')
    resumed = runner_of(
        tmp_path / 'killed', name='again', resume=True, load_from=str(checkpoint)
    )
    resumed.train()
    assert next(resumed.model.parameters()).device.type == device.type
    assert_equal(weights(resumed), weights(whole))


@pytest.mark.cuda_only
def test_an_overflow_in_float16_skips_the_step_and_halves_the_scale(tmp_path):
    scaler = {'init_scale': 2.0**40, 'growth_interval': 100}
    runner = run_training(
        MODEL,
        tmp_path / 'run',
        iterations=1,
        optim_wrapper={**AMP, 'loss_scale': scaler},
    )
    start = run_training(MODEL, tmp_path / 'start', iterations=0)
    parameters = dict(runner.model.named_parameters())
    for name, value in start.model.named_parameters():
        assert torch.equal(parameters[name], value), name
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0**39


@pytest.mark.cuda_only
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_trains_all_modules(tmp_path, dtype):
    scale = {'loss_scale': 'dynamic'} if dtype == 'float16' else {}
    wrapper = {**AMP, 'dtype': dtype, **scale}
    runner = run_training(MODEL, tmp_path / 'run', optim_wrapper=wrapper)
    start = run_training(MODEL, tmp_path / 'start', iterations=0)
    state = runner.model.state_dict()
    for part in ('backbone.stem.0', 'backbone.layer4.1.conv1', 'decode_head.conv_seg'):
        name = f'{part}.weight'
        assert torch.isfinite(state[name]).all()
        assert not torch.equal(state[name], start.model.state_dict()[name])


@pytest.mark.cuda_only
def test_memory_that_runs_out_names_the_module_and_what_helps(tmp_path):
    hungry = runner_of(tmp_path / 'run')
    block = hungry.model.backbone.layer3[0]
    total = torch.cuda.mem_get_info()[1]
    block.register_forward_hook(
        lambda *_: torch.empty(2 * total, dtype=torch.uint8, device='cuda')
    )
    with pytest.raises(torch.OutOfMemoryError, match='ran out in local_.*smaller crop'):
        hungry.train()


def test_pinned_memory_changes_nothing(tmp_path):
    def train(name, pin_memory):
        runner = runner_of(tmp_path / name, name=name, iterations=2)
        runner.train_dataloader.pin_memory = pin_memory and torch.cuda.is_available()
        runner.train()
        return weights(runner)

    assert_equal(train('pinned', True), train('plain', False))


@pytest.mark.cuda_only
def test_sync_bn_with_one_process_is_bn(tmp_path):
    runner = run_training(MODEL, tmp_path / 'bn', iterations=2)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(runner.model)
    images = torch.randn(2, 3, 64, 64, device='cuda')
    with torch.no_grad():
        features = model.eval().backbone(images)
    assert all(torch.isfinite(feature).all() for feature in features)
