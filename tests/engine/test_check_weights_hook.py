"""A checkpoint of another network is refused instead of half-loaded."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseTTAModel
from mmengine.runner.base_loop import BaseLoop
from mmseg.registry import MODELS as SEGMENTORS

from infopro_seg.engine import CheckWeightsHook
from tests.engine.runs import MODEL
from tests.helpers import NARROW, WIDTHS, build, deeplabv3, localized, resnet
from tests.samples import some_of


class Loop(BaseLoop):
    def __init__(self):
        pass

    def run(self):
        raise NotImplementedError


MODEL = build(MODEL)


def runner_of(model, trains, resume, said=None):
    said = [] if said is None else said
    return SimpleNamespace(
        model=model,
        _resume=resume,
        _train_loop=Loop() if trains else {},
        logger=SimpleNamespace(log=lambda level, text: said.append((level, text))),
    )


def load(state_dict, *, trains=False, resume=False, hook=None, model=MODEL, said=None):
    runner = runner_of(model, trains, resume, said)
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


def test_weights_of_which_no_name_fits_are_refused():
    bare = MODEL.backbone.state_dict()
    for settings in ({'trains': True}, {}, {'trains': True, 'resume': True}):
        with pytest.raises(
            ValueError, match=r'it has stem.0.weight, .* the model backbone.stem.0.w'
        ):
            load(bare, **settings)


def test_where_the_weights_are_is_said():
    runner = runner_of(MODEL, True, False)
    for entry in ('model', 'ema_state_dict'):
        with pytest.raises(ValueError, match=f"keeps tensors under '{entry}'"):
            CheckWeightsHook().after_load_checkpoint(
                runner, {entry: weights('nothing'), 'args': {'lr': 1}}
            )


def test_a_bare_state_dict_is_looked_at():
    CheckWeightsHook().after_load_checkpoint(
        runner_of(MODEL, False, False), weights('nothing')
    )


def other(depth):
    backbone = {**NARROW, 'depth': depth}
    return build(
        localized(deeplabv3(backbone, widths=WIDTHS), splits=['layer1.1', 'layer3.0'])
    )


def test_a_deeper_network_is_not_tested_as_a_shallower_one():
    # All that ResNet-18 needs is in ResNet-34, in the same shapes.
    deeper = other(34).state_dict()
    for settings in ({}, {'trains': True, 'resume': True}):
        with pytest.raises(ValueError, match='is in the checkpoint and not in the mod'):
            load(deeper, **settings)
    load(deeper, trains=True)


def test_a_test_needs_no_heads_that_only_train():
    load(weights('auxiliary_head.', 'local_heads.'))
    plain = build(deeplabv3(NARROW, widths=WIDTHS, auxiliary=None))
    load(weights('nothing'), model=plain)


def test_a_run_is_not_resumed_with_other_local_heads():
    plain = build(deeplabv3(NARROW, widths=WIDTHS))
    with pytest.raises(ValueError, match=r'local_heads.0\S+ is in the checkpoint and'):
        load(weights('nothing'), model=plain, trains=True, resume=True)
    with pytest.raises(ValueError, match=r'local_heads.0\S+ is missing in the check'):
        load(weights('local_heads.'), trains=True, resume=True)


def test_other_cuts_start_with_the_network_and_new_local_heads():
    cut = build(
        localized(deeplabv3(NARROW, widths=WIDTHS), splits=['layer2.1', 'layer3.0'])
    )
    said = []
    state_dict = weights('nothing')
    load(state_dict, model=cut, trains=True, said=said)
    assert [text for level, text in said if level == logging.WARNING] == [
        'local_heads.0 of the checkpoint have other shapes than those of the config '
        '(other cuts); they are left out.'
    ]
    assert not any(name.startswith('local_heads.0') for name in state_dict)
    with pytest.raises(ValueError, match='local_heads.0'):
        load(weights('nothing'), model=cut, trains=True, resume=True)


def test_a_part_of_another_network_is_said():
    said = []
    swapped = {
        name.replace('backbone.', 'backbone.net.'): v
        for name, v in weights('nothing').items()
    }
    load(swapped, trains=True, said=said)
    (level, text) = said[0]
    assert len(said) == 1 and level == logging.WARNING
    assert 'of backbone in the checkpoint has a name of the model' in text


def test_modules_may_convert_weights_of_earlier_versions():
    class Converting(torch.nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            state_dict[f'{prefix}weight'] = state_dict.pop(f'{prefix}old').T
            super()._load_from_state_dict(state_dict, prefix, *args)

    model = torch.nn.ModuleDict({'a': Converting(2, 3), 'b': torch.nn.Linear(1, 1)})
    state_dict = model.state_dict()
    state_dict['a.old'] = state_dict.pop('a.weight').T
    load(state_dict, model=model)
    # Files of torch before 0.4.1 have no num_batches_tracked.
    load({n: v for n, v in weights('nothing').items() if 'tracked' not in n})


def test_the_network_within_test_time_augmentation_is_looked_at():
    class Average(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            raise NotImplementedError

    model = Average(MODEL)
    load(weights('local_heads.'), model=model)
    with pytest.raises(ValueError, match='decode_head.conv_seg.weight is missing'):
        load(weights('decode_head.conv_seg'), model=model)


def pretrained(path, **init_cfg):
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(path), **init_cfg}
    backbone = resnet(stem_channels=8, base_channels=8, init_cfg=init_cfg)
    config = localized(deeplabv3(backbone, widths=WIDTHS))
    return SEGMENTORS.build(config)


@pytest.mark.parametrize('saved', some_of(['bare', 'wrapped', 'whole'], 'wrapped'))
def test_pretrained_weights_must_fit_the_part_they_are_for(tmp_path, saved):
    state_dict = {
        'bare': MODEL.backbone.state_dict(),
        'wrapped': {f'module.{n}': v for n, v in MODEL.backbone.state_dict().items()},
        'whole': MODEL.state_dict(),
    }[saved]
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': state_dict}, path)
    check = CheckWeightsHook().before_run
    settings = {'prefix': 'backbone.'} if saved == 'whole' else {}
    check(runner_of(pretrained(path, **settings), True, False))
    wrong = {} if saved == 'whole' else {'prefix': 'backbone'}
    with pytest.raises(
        ValueError, match=r'weights.pth has a name of model.backbone.*prefix='
    ):
        check(runner_of(pretrained(path, **wrong), True, False))
    # Neither a test nor a resumed run starts from them.
    check(runner_of(pretrained(path, **wrong), False, False))
    check(runner_of(pretrained(path, **wrong), True, True))
