"""What happens when a loss is not finite: everything is named, nothing is spoilt."""

import pytest
from mmengine.hooks import Hook

from infopro_seg.checkpoints.files import read_checkpoint
from infopro_seg.engine import LocalBackwardHook
from tests.engine.runs import CpuAmpOptimWrapper, assert_same, loader, runner_of


class PoisonHook(Hook):
    """Makes the output of a submodule NaN in some iterations."""

    def __init__(self, path, iterations):
        self.path = path
        self.iterations = iterations
        self.is_on = False

    def before_train(self, runner):
        runner.model.get_submodule(self.path).register_forward_hook(
            lambda module, args, output: output * float('nan') if self.is_on else output
        )

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.is_on = batch_idx in self.iterations


def run(work_dir, path, bad, policy='skip', **settings):
    runner = runner_of(
        work_dir,
        hooks=[PoisonHook(path, bad)],
        local_hook={'on_divergence': policy},
        **settings,
    )
    runner.train()
    return runner


@pytest.mark.parametrize(
    ('path', 'text'),
    [
        (
            'local_heads.1.reconstruction',
            r'iteration 3: local_1.loss_recon of local_1 \(\S+ ... \S+\) is nan. '
            r'Images of the batch: image_\d.png, image_\d.png. No parameter',
        ),
        ('auxiliary_head.conv_seg', r'aux.loss_ce of local_2 \(.*\) is nan'),
        ('decode_head.conv_seg', r'decode.loss_ce of local_2 \(.*\) is nan'),
    ],
)
def test_training_stops_and_names_module_loss_iteration_and_images(
    tmp_path, path, text
):
    with pytest.raises(FloatingPointError, match=text):
        run(tmp_path, path, [2], policy='stop')
    assert not (tmp_path / 'iter_4.pth').exists()


def test_the_iteration_is_counted_over_all_epochs(tmp_path):
    class LateHook(PoisonHook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.is_on = runner.iter == 5

    runner = runner_of(
        tmp_path,
        hooks=[LateHook('decode_head.conv_seg', ())],
        train_cfg={'type': 'EpochBasedTrainLoop', 'max_epochs': 2},
        train_dataloader=loader(sampler='DefaultSampler'),
    )
    with pytest.raises(FloatingPointError, match=r'iteration 6: decode.loss_ce'):
        runner.train()
    assert runner.epoch == 1


@pytest.mark.parametrize(
    ('path', 'wrapper'),
    [
        ('local_heads.0.segmentation.conv_seg', {}),
        # All running statistics are NaN after the forward pass.
        ('backbone.stem.0', {}),
        ('decode_head.conv_seg', {'type': CpuAmpOptimWrapper}),
        ('local_heads.1.reconstruction', {'clip_grad': {'max_norm': 0.1}}),
    ],
)
def test_a_skipped_batch_leaves_no_trace(tmp_path, path, wrapper):
    run(tmp_path, path, [2], interval=1, iterations=4, optim_wrapper=wrapper)
    before, after, later = (
        read_checkpoint(tmp_path / f'iter_{i}.pth') for i in (2, 3, 4)
    )
    assert_same(what_a_step_changes(before), what_a_step_changes(after), '')
    with pytest.raises(AssertionError):
        assert_same(what_a_step_changes(after), what_a_step_changes(later), '')


def what_a_step_changes(checkpoint):
    optimizer = checkpoint['optimizer']
    # EMAHook saves the average as state_dict, and the weights in its place.
    weights = checkpoint['ema_state_dict']
    return {
        'weights': {k: v for k, v in weights.items() if k.startswith('module.')},
        'momentum': optimizer['state'],
        'scaler': optimizer.get('loss_scaler'),
    }


def test_all_that_was_accumulated_for_the_step_is_skipped(tmp_path):
    wrapper = {'accumulative_counts': 2}
    runner = run(tmp_path, 'decode_head.conv_seg', [2], optim_wrapper=wrapper)
    before, after, later = (
        what_a_step_changes(read_checkpoint(tmp_path / f'iter_{i}.pth'))['momentum']
        for i in (2, 4, 6)
    )
    assert_same(before, after, 'momentum')
    with pytest.raises(AssertionError):
        assert_same(after, later, 'momentum')
    assert runner.message_hub.get_info('num_skipped_steps') == 1
    assert runner.message_hub.get_scalar('train/num_skipped_steps').current() == 1


def test_weights_that_are_lost_end_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match='10 steps in a row.*iteration 12'):
        run(tmp_path, 'decode_head.conv_seg', range(2, 99), iterations=20)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="on_divergence='ignore'.*'stop', 'skip'"):
        LocalBackwardHook(on_divergence='ignore')
