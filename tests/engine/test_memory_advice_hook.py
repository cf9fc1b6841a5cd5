"""Out of memory: which module, how much of it, what helps."""

import re

import pytest
import torch

from infopro_seg.engine import memory_advice_hook
from tests.engine.runs import MODEL, runner_of


def fail_in(runner, path, *, in_backward=False):
    """Let a submodule run out of memory."""

    def fail(*_):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 1 GiB')

    module = runner.model.get_submodule(path)
    if in_backward:
        module.register_full_backward_hook(fail)
    else:
        module.register_forward_hook(fail)


@pytest.mark.parametrize(
    ('path', 'in_backward', 'where'),
    [
        ('backbone.layer3.0', False, r'ran out in local_1 \('),
        ('backbone.layer1.0', True, r'ran out in local_0 \('),
        ('decode_head.conv_seg', False, r'ran out in local_2 \('),
        (
            'decode_head.conv_seg',
            True,
            r'in the backward pass or step after local_2 \(',
        ),
        ('data_preprocessor', False, 'before the first local module'),
    ],
)
@pytest.mark.parametrize('lean_loss', [None, False])
def test_the_module_is_named_with_what_helps(
    tmp_path, path, in_backward, where, lean_loss
):
    model = {**MODEL, 'local': {**MODEL['local'], 'lean_loss': lean_loss}}
    runner = runner_of(tmp_path, model=model)
    fail_in(runner, path, in_backward=in_backward)
    with pytest.raises(torch.OutOfMemoryError) as error:
        runner.train()
    message = str(error.value)
    assert message.startswith('CUDA out of memory. Tried to allocate 1 GiB')
    assert re.search(where, message), message
    assert ('lean_loss=True' in message) == (lean_loss is False)
    assert 'smaller crop_size' in message
    assert 'more local modules' in message
    assert ('recompute=[' in message) == (path != 'data_preprocessor')


def test_the_module_of_an_earlier_iteration_is_not_named(tmp_path):
    runner = runner_of(tmp_path)
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError('CUDA out of memory')

    runner.model.data_preprocessor.register_forward_hook(fail)
    with pytest.raises(torch.OutOfMemoryError, match='before the first local module'):
        runner.train()


def test_recomputed_units_are_not_advised_again(tmp_path):
    model = {**MODEL, 'local': {**MODEL['local'], 'recompute': ['layer2.1']}}
    runner = runner_of(tmp_path, model=model)
    fail_in(runner, 'backbone.layer3.0')
    with pytest.raises(torch.OutOfMemoryError) as error:
        runner.train()
    advised = str(error.value).partition('recompute=[')[2].partition(']')[0]
    assert 'layer3.0' in advised
    assert 'layer2.1' not in advised


def test_the_share_of_the_module_is_said_on_a_gpu(tmp_path, monkeypatch):
    allocated = iter([1 * 2**30, 2 * 2**30, 4 * 2**30])
    monkeypatch.setattr(memory_advice_hook, '_allocated_bytes', lambda: next(allocated))
    runner = runner_of(tmp_path)
    fail_in(runner, 'backbone.layer3.0')
    with pytest.raises(torch.OutOfMemoryError, match='2.00 GiB of 4.00 GiB .50%'):
        runner.train()


def test_other_errors_pass_through(tmp_path):
    runner = runner_of(tmp_path)

    def fail(*_):
        raise KeyError('something else')

    runner.model.backbone.stem.register_forward_hook(fail)
    with pytest.raises(KeyError, match='^.something else.$'):
        runner.train()
