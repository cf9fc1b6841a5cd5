"""One entry of a config gives a run of local modules all that it needs."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmseg.registry import DATASETS, HOOKS

from infopro_seg.checkpoints.files import read_checkpoint
from infopro_seg.engine import LocalTrainingHook, SafeCheckpointHook
from tests.helpers import NARROW, WIDTHS, deeplabv3, localized
from tests.runs import RandomScenes

STOCK = deeplabv3(NARROW, WIDTHS)
LOCAL = localized(STOCK, num_modules=3)
LOADER = {
    'dataset': {'type': 'RegisteredScenes'},
    'batch_size': 2,
    'sampler': {'type': 'InfiniteSampler', 'shuffle': True, 'seed': 0},
    'num_workers': 0,
    'collate_fn': {'type': 'pseudo_collate'},
}


@DATASETS.register_module(force=True)
class RegisteredScenes(RandomScenes):
    """Scenes that a config can name."""


@HOOKS.register_module(force=True)
class OwnCheckpointHook(CheckpointHook):
    """What a user may have written."""


HOOKS = ({'type': 'LocalTrainingHook'},)


def config(folder, model=LOCAL, hooks=HOOKS, **settings):
    return Config(
        {
            'default_scope': 'mmseg',
            'model': copy.deepcopy(model),
            'work_dir': str(folder),
            'train_dataloader': LOADER,
            'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 2},
            'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.05}},
            'custom_hooks': list(hooks),
            'default_hooks': {
                'checkpoint': {
                    'type': 'CheckpointHook',
                    'by_epoch': False,
                    'interval': 1,
                    'max_keep_ckpts': 5,
                }
            },
            'randomness': {'seed': 0},
            'experiment_name': folder.name,
            'log_level': 'ERROR',
            **settings,
        }
    )


def train(*args, **settings):
    runner = Runner.from_cfg(config(*args, **settings))
    runner.train()
    return runner


def hooks_of(runner):
    return [type(hook).__name__ for hook in runner.hooks]


NEEDED = {
    'LocalBackwardHook',
    'LossGuardHook',
    'MemoryAdviceHook',
    'CheckLabelsHook',
    'DataGuardHook',
    'CheckWeightsHook',
}
LOCAL_HOOKS = {'LocalBackwardHook', 'LossGuardHook', 'MemoryAdviceHook'}


def test_one_entry_is_the_whole_list(tmp_path):
    short = train(tmp_path / 'short')
    assert set(hooks_of(short)) >= NEEDED
    assert len(hooks_of(short)) == len(set(hooks_of(short)))
    (saver,) = [h for h in short.hooks if isinstance(h, CheckpointHook)]
    assert type(saver) is SafeCheckpointHook
    assert saver.max_keep_ckpts == 5
    listed = [{'type': name} for name in sorted(NEEDED)]
    safe = {'checkpoint': {'type': 'SafeCheckpointHook', 'by_epoch': False}}
    long = train(tmp_path / 'long', hooks=listed, default_hooks=safe)
    for left, right in zip(
        short.model.parameters(), long.model.parameters(), strict=True
    ):
        assert torch.equal(left, right)


def test_a_hook_with_settings_of_its_own_is_left_alone(tmp_path):
    own = {'type': 'CheckWeightsHook', 'drop': ['decode_head.conv_seg']}
    runner = train(tmp_path / 'run', hooks=[{'type': 'LocalTrainingHook'}, own])
    (hook,) = [h for h in runner.hooks if type(h).__name__ == 'CheckWeightsHook']
    assert hook._drop == ('decode_head.conv_seg',)


def test_a_stock_model_gets_the_checks_but_no_local_backward(tmp_path):
    runner = train(tmp_path / 'run', STOCK)
    assert set(hooks_of(runner)) >= NEEDED - LOCAL_HOOKS
    assert LOCAL_HOOKS.isdisjoint(hooks_of(runner))


def test_the_monitor_and_the_policy_are_settings_of_the_entry(tmp_path):
    entry = {'type': 'LocalTrainingHook', 'monitor_interval': 2}
    runner = train(tmp_path / 'run', hooks=[entry])
    assert 'LocalModuleMonitorHook' in hooks_of(runner)
    with pytest.raises(ValueError, match="on_divergence='ignore' is unknown"):
        LocalTrainingHook(on_divergence='ignore')
    with pytest.raises(ValueError, match='interval=-1'):
        LocalTrainingHook(monitor_interval=-1)


@pytest.mark.parametrize('entry', [True, False])
def test_a_backward_hook_alone_brings_what_belongs_beside_it(tmp_path, entry):
    """Also with the policy where it was set before, whatever else is listed."""
    with pytest.warns(UserWarning, match='is deprecated: set LocalTraining'):
        runner = train(
            tmp_path / 'run',
            hooks=[{'type': 'LocalTrainingHook'}] * entry
            + [{'type': 'LocalBackwardHook', 'on_divergence': 'skip'}],
        )
    assert 'MemoryAdviceHook' in hooks_of(runner)
    (guard,) = [h for h in runner.hooks if type(h).__name__ == 'LossGuardHook']
    assert guard._skips


def test_a_checkpoint_hook_of_the_users_stays_and_that_is_said(tmp_path, capsys):
    settings = {'checkpoint': {'type': 'OwnCheckpointHook', 'by_epoch': False}}
    cfg = config(tmp_path / 'run', default_hooks=settings, log_level='WARNING')
    # Loggers are shared by all runs that start in the same second.
    cfg.experiment_name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    said = capsys.readouterr().out
    assert 'OwnCheckpointHook is used instead of SafeCheckpointHook' in said
    assert 'OwnCheckpointHook' in hooks_of(runner)


ARCHIVE = {
    'by_epoch': False,
    'interval': 1,
    'filename_tmpl': 'archive_{}.pth',
    'save_optimizer': False,
}
DEFAULT = {'by_epoch': False, 'interval': 2, 'max_keep_ckpts': 1}


def checkpoints(folder):
    """Names of the checkpoints of a run, and which hold an optimizer."""
    return {
        path.name: 'optimizer' in read_checkpoint(path) for path in folder.glob('*.pth')
    }


def savers(runner):
    """Place, priority and settings of all that writes checkpoints."""
    names = ('interval', 'filename_tmpl', 'save_optimizer', 'out_dir', 'max_keep_ckpts')
    return [
        [place, hook.priority, *(str(getattr(hook, name)) for name in names)]
        for place, hook in enumerate(hook for hook in runner.hooks if is_of_host(hook))
        if isinstance(hook, CheckpointHook)
    ]


def is_of_host(hook):
    """Whether a stock run has it, too."""
    name = type(hook).__module__.partition('.')[0]
    return isinstance(hook, CheckpointHook) or name == 'mmengine'


@pytest.mark.parametrize(
    ('default', 'archive'),
    [
        ({'type': 'CheckpointHook', **DEFAULT}, {'type': 'CheckpointHook', **ARCHIVE}),
        ({'type': CheckpointHook, **DEFAULT}, {'type': CheckpointHook, **ARCHIVE}),
        (
            {'type': 'CheckpointHook', **DEFAULT},
            {'type': 'CheckpointHook', 'priority': 'LOWEST', **ARCHIVE},
        ),
        (None, {'type': 'mmengine.CheckpointHook', **ARCHIVE}),
    ],
)
def test_every_checkpoint_hook_keeps_its_own_settings(tmp_path, default, archive):
    """Each is converted by itself: all were made from default_hooks.checkpoint once."""
    runs = []
    for hooks in ([], [{'type': 'LocalTrainingHook'}]):
        folder = tmp_path / str(len(hooks)) / 'run'
        settings = {
            'default_hooks': {'checkpoint': copy.deepcopy(default)},
            'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 4},
        }
        hooks = [copy.deepcopy(archive), *hooks]
        runs.append(train(folder, STOCK, hooks, **settings))
    stock, ours = runs
    files = checkpoints(tmp_path / '0/run')
    assert files.items() >= {f'archive_{i}.pth': False for i in (1, 2, 3, 4)}.items()
    assert checkpoints(tmp_path / '1/run') == files
    there, here = str(tmp_path / '0'), str(tmp_path / '1')
    rows = [[str(v).replace(there, here) for v in row] for row in savers(stock)]
    assert [list(map(str, row)) for row in savers(ours)] == rows
    kinds = {type(h) for h in ours.hooks if isinstance(h, CheckpointHook)}
    assert kinds == {SafeCheckpointHook}


@pytest.mark.parametrize('backend', [None, {'backend': 'local'}])
def test_a_hook_that_code_registered_keeps_all_its_settings(backend):
    stock = CheckpointHook(**ARCHIVE, save_best='mIoU', backend_args=backend, more=1)
    stock.priority = 'LOWEST'
    safe = SafeCheckpointHook.in_place_of(stock)
    kept = {key: getattr(safe, key) for key in vars(stock)}
    assert kept == {
        **vars(stock),
        'backend_args': backend or {'backend': 'whole_file'},
    }
    assert stock.backend_args == backend


def test_the_splits_stand_in_the_work_dir_and_in_the_checkpoint(tmp_path):
    runner = train(tmp_path / 'run')
    splits = [module.units[-1].name for module in runner.model.local_modules[:-1]]
    assert len(splits) == 2
    (dumped,) = (tmp_path / 'run').glob('*.py')
    local = Config.fromfile(dumped).model.local
    assert local.splits == splits
    assert local.num_modules is None
    meta = read_checkpoint(tmp_path / 'run' / 'iter_1.pth')['meta']
    assert meta['local'] == {'splits': splits, 'recompute': []}
    assert Config.fromstring(meta['cfg'], '.py').model.local.splits == splits


def test_a_run_that_is_cut_elsewhere_does_not_resume(tmp_path):
    train(tmp_path / 'run')
    last = str(tmp_path / 'run' / 'iter_1.pth')
    other = localized(STOCK, splits=['layer1.0', 'layer4.0'])
    cfg = config(tmp_path / 'other', other, load_from=last, resume=True)
    with pytest.raises(ValueError, match=r'was trained with splits=.*To resume, set'):
        Runner.from_cfg(cfg).train()
    same = config(tmp_path / 'same', load_from=last, resume=True)
    assert Runner.from_cfg(same).train() is not None
