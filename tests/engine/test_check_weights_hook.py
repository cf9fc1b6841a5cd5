"""A checkpoint of another network is refused instead of half-loaded."""

from types import SimpleNamespace

import pytest
from mmengine.runner.base_loop import BaseLoop

from infopro_seg.engine import CheckWeightsHook
from tests.engine.runs import MODEL
from tests.helpers import build


class Loop(BaseLoop):
    def __init__(self):
        pass

    def run(self):
        raise NotImplementedError


MODEL = build(MODEL)


def load(state_dict, *, trains=False, resume=False, hook=None):
    runner = SimpleNamespace(
        model=MODEL, _resume=resume, _train_loop=Loop() if trains else {}
    )
    hook = hook or CheckWeightsHook()
    hook.after_load_checkpoint(runner, {'state_dict': state_dict})


def weights(*without):
    state_dict = MODEL.state_dict()
    return {n: v for n, v in state_dict.items() if not n.startswith(without)}


def test_the_models_own_weights_pass():
    load(weights('nothing'))
    load({f'module.{name}': value for name, value in weights('nothing').items()})


def test_a_test_needs_all_but_the_local_heads():
    load(weights('local_heads.'))
    with pytest.raises(ValueError, match='decode_head.conv_seg.weight is missing'):
        load(weights('decode_head.conv_seg'))


def test_training_may_start_from_a_part_but_not_resume_from_it():
    load(weights('decode_head.'), trains=True)
    with pytest.raises(ValueError, match='is missing in the checkpoint; .* more'):
        load(weights('decode_head.'), trains=True, resume=True)


def test_weights_to_drop_are_not_loaded():
    state_dict = weights('nothing')
    name = 'decode_head.conv_seg.weight'
    state_dict[name] = state_dict[name][:2]
    with pytest.raises(ValueError, match=r'\(2, 16, 1, 1\) in the checkpoint'):
        load(state_dict, trains=True)
    hook = CheckWeightsHook(drop=['decode_head.conv_seg'])
    load(state_dict, trains=True, hook=hook)
    assert name not in state_dict
