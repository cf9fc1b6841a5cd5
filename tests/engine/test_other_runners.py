"""Local backward passes under the host's other ways to run: what works, what does not.

Wrappers of other strategies (FSDP, DeepSpeed, ColossalAI) are refused, see
test_local_backward_hook.py.
"""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner

from tests.engine.runs import MODEL, loader
from tests.helpers import assert_equal

EARLY = ({'type': 'LocalBackwardHook'}, {'type': 'DataGuardHook'})


def run(work_dir, runner=Runner, hooks=EARLY, checkpoint=None, **settings):
    torch.manual_seed(0)
    runner = runner(
        model=ConfigDict(copy.deepcopy(MODEL)),
        work_dir=str(work_dir),
        train_dataloader=loader(),
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': 2},
        optim_wrapper={
            'type': 'OptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05},
            'accumulative_counts': 2,
        },
        custom_hooks=list(hooks),
        default_hooks={'checkpoint': checkpoint, 'runtime_info': None},
        default_scope='mmseg',
        experiment_name=work_dir.name,
        randomness={'seed': 0},
        log_level='ERROR',
        **settings,
    )
    runner.train()
    return runner


@pytest.mark.exhaustive
def test_a_flexible_runner_on_one_device_trains_the_same_weights(tmp_path):
    stock = run(tmp_path / 'stock')
    flexible = run(tmp_path / 'flexible', FlexibleRunner)
    assert_equal(stock.model.state_dict(), flexible.model.state_dict())


@pytest.fixture
def process_group(tmp_path, monkeypatch):
    # On a CPU the strategy must find a process group, as its own sets a CUDA device.
    monkeypatch.setenv('LOCAL_RANK', '0')
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def ddp_strategy(**wrapper):
    return {
        'launcher': 'pytorch',
        'strategy': {
            'type': 'DDPStrategy',
            'model_wrapper': {
                'type': 'MMDistributedDataParallel',
                'device_ids': None,
                'broadcast_buffers': False,
                **wrapper,
            },
        },
    }


def test_a_flexible_runner_with_ddp_trains_the_same_weights(tmp_path, process_group):
    stock = run(tmp_path / 'stock')
    settings = ddp_strategy(find_unused_parameters=True)
    wrapped = run(tmp_path / 'ddp', FlexibleRunner, **settings)
    assert_equal(stock.model.state_dict(), wrapped.model.module.state_dict())


def test_a_flexible_runner_with_stock_ddp_is_refused(tmp_path, process_group):
    with pytest.raises(RuntimeError, match='find_unused_parameters=False'):
        run(tmp_path, FlexibleRunner, **ddp_strategy())


@pytest.mark.parametrize('runner', [Runner, FlexibleRunner])
def test_that_another_runner_may_leave_half_checkpoints_is_said(
    tmp_path, monkeypatch, runner
):
    said = []
    monkeypatch.setattr(MMLogger, 'log', lambda self, level, text: said.append(text))
    hook = {'type': 'SafeCheckpointHook', 'by_epoch': False, 'interval': 1}
    run(tmp_path, runner, checkpoint=hook)
    is_said = any('FlexibleRunner writes checkpoints by itself' in t for t in said)
    assert is_said == (runner is FlexibleRunner)


def test_checkpointing_by_the_host_is_refused(tmp_path):
    # It wraps the forward of a part of the model; that of a stage is never called.
    cfg = {'activation_checkpointing': ['backbone.layer3.0']}
    with pytest.raises(RuntimeError, match=r"\['backbone.layer3.0'\].*recompute="):
        run(tmp_path, cfg=cfg)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_compiled_training_step_trains_the_same_weights(tmp_path):
    plain = run(tmp_path / 'plain')
    compiled = run(tmp_path / 'compiled', cfg={'compile': {'backend': 'eager'}})
    assert_equal(plain.model.state_dict(), compiled.model.state_dict())
    assert 'train_step' in vars(compiled.model)
