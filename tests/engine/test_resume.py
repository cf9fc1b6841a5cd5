"""Contract: interrupted and resumed equals uninterrupted, bit for bit."""

import copy
import shutil
from collections import Counter

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, loops, set_random_seed
from mmengine.runner.base_loop import BaseLoop
from mmseg.registry import DATA_SAMPLERS

from infopro_seg.checkpoints.files import read_checkpoint
from infopro_seg.checkpoints.loading import resume_last_checkpoint
from infopro_seg.report.run_log import read_run
from tests.engine.runs import (
    Augment,
    CpuAmpOptimWrapper,
    Killed,
    KillHook,
    Scenes,
    assert_same,
    assert_same_checkpoint,
    loader,
    resume,
    runner_of,
)
from tests.engine.test_loss_guard_hook import PoisonHook
from tests.samples import some_of


@DATA_SAMPLERS.register_module()
class OwnRandomSampler(DefaultSampler):
    """Whose order follows from torch's generator."""

    def __iter__(self):
        return iter(torch.randperm(len(self.dataset)).tolist())


VALIDATION = {
    'val_dataloader': loader(sampler='DefaultSampler'),
    'val_cfg': {'type': 'ValLoop'},
    'val_evaluator': {'type': 'IoUMetric', 'iou_metrics': ['mIoU']},
}


def interrupt(work_dir, after, **settings):
    hooks = [KillHook(after)]
    with pytest.raises(Killed):
        runner_of(work_dir, hooks=hooks, **settings).train()


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'optim_wrapper': {'accumulative_counts': 2}},
        *(
            pytest.param(settings, marks=pytest.mark.exhaustive)
            for settings in (
                {'optim_wrapper': {'type': CpuAmpOptimWrapper}},
                VALIDATION,
                {'train_dataloader': loader(sampler='InfiniteSampler')},
                {'train_dataloader': loader(2)},
            )
        ),
    ],
    ids=['plain', 'accumulation', 'scaler', 'validation', 'stock sampler', 'workers'],
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, settings):
    runner_of(tmp_path / 'whole', **settings).train()
    interrupt(tmp_path / 'killed', after=5, **settings)
    assert not (tmp_path / 'killed' / 'iter_6.pth').exists()
    assert resume(tmp_path / 'killed', **settings).train_loop.iter == 6
    ends = [tmp_path / run / 'iter_6.pth' for run in ('whole', 'killed')]
    assert_same_checkpoint(*ends)
    middle = read_checkpoint(tmp_path / 'whole' / 'iter_4.pth')
    end = read_checkpoint(ends[0])
    assert not torch.equal(
        middle['random_states'][0]['torch'], end['random_states'][0]['torch']
    )
    assert {'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'} <= set(end)


class KillValidationHook(Hook):
    """Ends the run in the validation after some iterations."""

    def __init__(self, after):
        self.after = after

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.after:
            raise Killed


class Repeatable(Augment):
    """The same for an image whenever it is read, as data to validate on are."""

    def __call__(self, results):
        set_random_seed(int(results['sample_idx']))
        return super().__call__(results)


class CountValidationsHook(Hook):
    """Counts validations that ran to their end."""

    def __init__(self, counts):
        self.counts = counts

    def after_val(self, runner):
        self.counts['validations'] += 1


@pytest.mark.parametrize('kind', ['iterations', 'epochs', 'iterations of an epoch'])
def test_a_run_stopped_in_its_last_validation_ends_with_its_score(tmp_path, kind):
    scenes = Scenes(pipeline=[Repeatable()])
    data = {'val_dataloader': loader(sampler='DefaultSampler', dataset=scenes)}
    settings, last = {**VALIDATION, **data, 'iterations': 4}, 'iter_4.pth'
    if kind != 'iterations':
        settings |= epochs(1)
    if kind == 'epochs':
        settings['checkpoint'] = {'by_epoch': True, 'interval': 1}
        last = 'epoch_1.pth'
    counts = Counter()
    final = [{'type': 'DueValidationHook'}, CountValidationsHook(counts)]
    runner_of(tmp_path / 'whole', hooks=final, **settings).train()
    num_validations = 2 if kind == 'iterations' else 1
    assert counts['validations'] == num_validations
    with pytest.raises(Killed):
        hooks = [KillValidationHook(after=4), *final]
        runner_of(tmp_path / 'killed', hooks=hooks, **settings).train()
    resume(tmp_path / 'killed', hooks=final, **settings)
    assert counts['validations'] == 2 * num_validations
    scores = [read_run(tmp_path / run).series['mIoU'] for run in ('whole', 'killed')]
    assert scores[0] == scores[1]
    assert_same_checkpoint(tmp_path / 'whole' / last, tmp_path / 'killed' / last)


@pytest.mark.exhaustive
def test_workers_draw_the_same_augmentations_as_the_main_process(tmp_path):
    for name, workers in (('none', 0), ('one', 1)):
        runner_of(
            tmp_path / name, iterations=2, train_dataloader=loader(workers)
        ).train()
    assert torch.equal(
        *(
            read_checkpoint(tmp_path / name / 'iter_2.pth')['state_dict'][
                'decode_head.conv_seg.weight'
            ]
            for name in ('none', 'one')
        )
    )


def epochs(num_epochs=2, dataset=None, **data):
    """Epochs of 4 batches, shuffled."""
    data = {'sampler': 'DefaultSampler', **data}
    data = loader(dataset=dataset, **data)
    data['sampler']['shuffle'] = True
    return {
        'train_cfg': {'type': 'EpochBasedTrainLoop', 'max_epochs': num_epochs},
        'train_dataloader': data,
    }


def assert_goes_on(tmp_path, start, after, last, **settings):
    """Killed and resumed, a run ends with the checkpoint of the undisturbed one."""
    runner_of(tmp_path / 'whole', **settings).train()
    interrupt(tmp_path / 'killed', after=after, **settings)
    runner = resume(tmp_path / 'killed', **settings)
    assert (tmp_path / 'killed' / start).exists()
    assert_same_checkpoint(tmp_path / 'whole' / last, tmp_path / 'killed' / last)
    return runner


@pytest.fixture
def said(monkeypatch):
    """Warnings of our hooks."""
    texts = []
    monkeypatch.setattr(MMLogger, 'log', lambda self, level, text: texts.append(text))
    return texts


@pytest.mark.parametrize('wrapper', some_of([{}, {'type': CpuAmpOptimWrapper}], {}))
def test_a_checkpoint_in_the_middle_of_accumulation_holds_the_gradients(
    tmp_path, wrapper
):
    wrapper = {'accumulative_counts': 3, 'clip_grad': {'max_norm': 1.0}, **wrapper}
    assert_goes_on(tmp_path, 'iter_2.pth', 3, 'iter_6.pth', optim_wrapper=wrapper)
    held = [
        read_checkpoint(tmp_path / 'whole' / f'iter_{i}.pth').get('gradients')
        for i in (2, 4, 6)
    ]
    assert [bool(gradients) for gradients in held] == [True, True, False]


def test_gradients_of_another_accumulation_are_left_out(tmp_path, said):
    settings = {'optim_wrapper': {'accumulative_counts': 3}}
    interrupt(tmp_path, after=3, **settings)
    resume(tmp_path, iterations=3)
    assert any('accumulative_counts was 3 and is 1 now' in text for text in said)


class ScaledOptimWrapper(CpuAmpOptimWrapper):
    """Float32 with torch's default loss scale, 2**16: rounds as without it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu')

    optim_context = OptimWrapper.optim_context


def assert_same_weights(left, right):
    left, right = read_checkpoint(left), read_checkpoint(right)
    for key in ('state_dict', 'ema_state_dict'):
        assert_same(left[key], right[key], key)
    # Momentum, but not the scaler.
    assert_same(left['optimizer']['state'], right['optimizer']['state'], 'state')


@pytest.mark.parametrize('is_old', [False, True], ids=['now', 'older file'])
@pytest.mark.parametrize(
    ('first', 'then'),
    [
        (ScaledOptimWrapper, OptimWrapper),
        (OptimWrapper, ScaledOptimWrapper),
        (ScaledOptimWrapper, ScaledOptimWrapper),
    ],
)
def test_gradients_wait_in_the_unit_of_the_loss_scaler(tmp_path, first, then, is_old):
    # Scaled ones in a step without a scaler were 65536 times too large.
    counts = {'accumulative_counts': 3}
    runner_of(tmp_path / 'whole', optim_wrapper=counts).train()
    interrupt(tmp_path / 'killed', after=3, optim_wrapper={'type': first, **counts})
    if is_old:
        path = tmp_path / 'killed' / 'iter_2.pth'
        checkpoint = torch.load(path, weights_only=False)
        for name in ('loss_scale', 'share_of_step'):
            del checkpoint['gradients'][name]
        torch.save(checkpoint, path)
    resume(tmp_path / 'killed', optim_wrapper={'type': then, **counts})
    assert_same_weights(
        tmp_path / 'whole' / 'iter_6.pth', tmp_path / 'killed' / 'iter_6.pth'
    )


def test_gradients_that_a_scaler_would_skip_are_left_out_without_one(tmp_path, said):
    counts = {'accumulative_counts': 3}
    scaled = {'type': ScaledOptimWrapper, **counts}
    interrupt(tmp_path, after=3, optim_wrapper=scaled)
    path = tmp_path / 'iter_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    (gradients,) = checkpoint['gradients']['processes']
    gradients['decode_head.conv_seg.bias'][0] = float('inf')
    torch.save(checkpoint, path)
    runner = resume(tmp_path, iterations=3, optim_wrapper=counts)
    assert any('are lost: they are not finite' in text for text in said)
    assert torch.isfinite(runner.model.decode_head.conv_seg.bias).all()


def test_gradients_of_a_shorter_last_step_wait_in_the_unit_of_a_whole_one(tmp_path):
    # With 6 iterations the last step has 2 of them, with 8 it has 4 like the others.
    counts = {'accumulative_counts': 4}
    runner_of(tmp_path / 'whole', iterations=8, optim_wrapper=counts).train()
    settings = {'interval': 5, 'optim_wrapper': counts}
    with pytest.raises(Killed):
        hooks = [KillHook(5, 'LOWEST')]
        runner_of(tmp_path / 'killed', hooks=hooks, **settings).train()
    settings |= {'interval': 2, 'iterations': 8}
    resume(tmp_path / 'killed', **settings)
    assert_same_weights(
        tmp_path / 'whole' / 'iter_8.pth', tmp_path / 'killed' / 'iter_8.pth'
    )


@pytest.mark.parametrize('then', some_of(['skip', 'stop'], 'stop'))
def test_a_step_that_is_to_be_skipped_is_skipped_after_resuming_too(tmp_path, then):
    # The bad loss is the first of three, the checkpoint behind the second.
    settings = {
        'optim_wrapper': {'accumulative_counts': 3},
        'local_hook': {'on_divergence': 'skip'},
        'iterations': 7,
    }
    bad = {'type': PoisonHook, 'path': 'decode_head.conv_seg', 'iterations': [3]}
    runner_of(tmp_path / 'whole', hooks=[bad], **settings).train()
    with pytest.raises(Killed):
        runner_of(tmp_path / 'killed', hooks=[bad, KillHook(6)], **settings).train()
    assert not (tmp_path / 'killed' / 'iter_6.pth').exists()
    # With the other policy, too: the gradients in the file are not finite.
    settings['local_hook'] = {'on_divergence': then}
    runner = resume(tmp_path / 'killed', hooks=[bad], **settings)
    assert runner.message_hub.get_info('num_skipped_steps') == 1
    assert_same_checkpoint(
        tmp_path / 'whole' / 'iter_7.pth', tmp_path / 'killed' / 'iter_7.pth'
    )


@pytest.mark.exhaustive
def test_an_epoch_is_finished_where_it_was_left(tmp_path):
    batches = []

    class Note(KillHook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            batches.append((runner.epoch, batch_idx))

    settings = {**epochs(), 'interval': 3}
    assert_goes_on(tmp_path, 'iter_3.pth', 4, 'iter_8.pth', **settings)
    (tmp_path / 'noted').mkdir()
    shutil.copy(tmp_path / 'whole' / 'iter_3.pth', tmp_path / 'noted')
    resume(tmp_path / 'noted', hooks=[Note(0)], **settings)
    assert batches == [(0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]


def test_a_checkpoint_at_the_end_of_an_epoch_goes_on_with_the_next(tmp_path):
    settings = {
        **epochs(),
        'interval': 4,
        'param_scheduler': [{'type': 'MultiStepLR', 'milestones': [1]}],
    }
    assert_goes_on(tmp_path, 'iter_4.pth', 7, 'iter_8.pth', **settings)


@pytest.mark.exhaustive
def test_epochs_with_validation_and_a_best_checkpoint(tmp_path):
    settings = {
        **epochs(3),
        **VALIDATION,
        'checkpoint': {'by_epoch': True, 'interval': 1, 'save_best': 'mIoU'},
        'optim_wrapper': {'accumulative_counts': 3},
    }
    assert_goes_on(tmp_path, 'epoch_1.pth', 7, 'epoch_3.pth', **settings)
    best = [
        sorted(path.name for path in (tmp_path / run).glob('best*'))
        for run in ('whole', 'killed')
    ]
    assert best[0] == best[1] != []


@pytest.mark.exhaustive
@pytest.mark.parametrize('data', [{}, epochs()])
def test_a_second_checkpoint_hook_changes_nothing(tmp_path, data):
    """Each restores the state of the run, which must be the same after both."""
    archive = {
        'type': 'SafeCheckpointHook',
        'by_epoch': False,
        'interval': 1,
        'filename_tmpl': 'archive_{}.pth',
        'save_optimizer': False,
    }
    alone, folder = tmp_path / 'alone', tmp_path / 'twice'
    runner_of(alone, **copy.deepcopy(data)).train()
    hooks = [archive, KillHook(5)]
    with pytest.raises(Killed):
        runner_of(folder, hooks=copy.deepcopy(hooks), **copy.deepcopy(data)).train()
    cfg = Config({'work_dir': str(folder), 'custom_hooks': [archive]})
    resume_last_checkpoint(cfg)
    assert cfg.load_from == str(folder / 'iter_4.pth')
    last = {'load_from': cfg.load_from, 'resume': True, 'name': 'resumed'}
    runner_of(folder, hooks=[copy.deepcopy(archive)], **last, **data).train()
    assert (folder / 'archive_6.pth').exists()
    assert_same_checkpoint(alone / 'iter_6.pth', folder / 'iter_6.pth')


def test_a_run_may_be_killed_twice(tmp_path):
    settings = {**epochs(), 'interval': 3, 'optim_wrapper': {'accumulative_counts': 2}}
    runner_of(tmp_path / 'whole', **settings).train()
    interrupt(tmp_path / 'killed', after=4, **settings)
    with pytest.raises(Killed):
        resume(tmp_path / 'killed', hooks=[KillHook(7)], **settings)
    resume(tmp_path / 'killed', **settings)
    assert_same_checkpoint(
        tmp_path / 'whole' / 'iter_8.pth', tmp_path / 'killed' / 'iter_8.pth'
    )


@pytest.mark.exhaustive
def test_iterations_over_a_sampler_with_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(loops.time, 'sleep', lambda seconds: None)
    data = loader(sampler='DefaultSampler', dataset=Scenes(5, pipeline=[Augment()]))
    data['sampler']['shuffle'] = True
    data['drop_last'] = True
    settings = {'train_dataloader': data, 'iterations': 8, 'interval': 3}
    assert_goes_on(tmp_path, 'iter_6.pth', 7, 'iter_8.pth', **settings)


@pytest.mark.exhaustive
@pytest.mark.parametrize('persistent', [True, False])
def test_workers_go_on_inside_an_epoch(tmp_path, persistent):
    settings = {**epochs(num_workers=2), 'interval': 3}
    settings['train_dataloader']['persistent_workers'] = persistent
    assert_goes_on(tmp_path, 'iter_3.pth', 5, 'iter_8.pth', **settings)


def test_a_checkpoint_of_the_hosts_hook_goes_on_inside_its_epoch(tmp_path):
    settings = {**epochs(), 'interval': 3}
    # Whose augmentations are not seeded; only the order is compared.
    stock = {**settings, 'checkpoint': {'type': 'CheckpointHook'}}
    interrupt(tmp_path, after=5, **stock)
    drawn = []

    class Note(KillHook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            drawn.append([s.img_path for s in data_batch['data_samples']])

    resume(tmp_path, hooks=[Note(0)], **settings)
    resumed, drawn[:] = drawn[:], []
    runner_of(tmp_path / 'whole', hooks=[Note(0)], **settings).train()
    assert resumed == drawn[3:]


class OwnLoop(BaseLoop):
    """Of a user: one batch after the other."""

    def __init__(self, runner, dataloader, max_iters):
        super().__init__(runner, dataloader)
        self.max_iters, self.max_epochs, self._iter, self._epoch = max_iters, 1, 0, 0
        self.val_interval = self.val_begin = 1

    @property
    def iter(self):
        return self._iter

    @property
    def epoch(self):
        return self._epoch

    def run(self):
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        EpochBasedTrainLoop.run_iter(self, self._iter, next(iter(self.dataloader)))


@pytest.mark.parametrize(
    ('first', 'then', 'text'),
    [
        (
            epochs(sampler='OwnRandomSampler'),
            epochs(sampler='OwnRandomSampler'),
            'the first 3 batches that OwnRandomSampler gives are left out',
        ),
        (
            epochs(),
            epochs(batch_size=4),
            'epoch 1 is repeated from its first batch: at iteration 3',
        ),
        (
            epochs(),
            {'train_cfg': {'type': OwnLoop, 'max_iters': 8}},
            'where OwnLoop was in its data is not known',
        ),
    ],
)
def test_a_place_that_is_not_known_is_said(tmp_path, said, first, then, text):
    interrupt(tmp_path, after=4, interval=3, **first)
    resume(tmp_path, interval=3, **then)
    assert sum(text in words for words in said) == 1, said


def test_nothing_is_said_where_all_is_known(tmp_path, said):
    assert_goes_on(tmp_path, 'iter_3.pth', 5, 'iter_8.pth', interval=3, **epochs())
    assert not [text for text in said if 'resuming' in text]


@pytest.mark.exhaustive
def test_another_number_of_processes_is_said_and_goes_on(tmp_path, said):
    interrupt(tmp_path, after=3, interval=2, optim_wrapper={'accumulative_counts': 3})
    path = tmp_path / 'iter_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['random_states'] *= 2
    checkpoint['gradients']['processes'] *= 2
    torch.save(checkpoint, path)
    resume(tmp_path, optim_wrapper={'accumulative_counts': 3})
    assert any('those of 2 processes; this run has 1' in text for text in said)
