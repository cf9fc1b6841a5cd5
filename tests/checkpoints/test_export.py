"""What is exported is whole: a config that builds where this package never was."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook

from infopro_seg.checkpoints.export import (
    export,
    find_checkpoint,
    read_trained_config,
    stock_run_config,
)
from infopro_seg.datasets import CamVidDataset
from infopro_seg.engine import LocalTrainingHook, SafeCheckpointHook
from tests.helpers import WIDTHS, build, deeplabv3, localized, resnet


def local_config(**settings):
    return Config({'model': localized(deeplabv3(), num_modules=2), **settings})


@pytest.mark.parametrize(
    ('imports', 'expected'),
    [
        (['infopro_seg'], None),
        ('infopro_seg', None),
        (['infopro_seg', 'my_heads'], ['my_heads']),
        (('my_heads', 'infopro_seg', 'my_data.sets'), ['my_heads', 'my_data.sets']),
        ('my_heads', 'my_heads'),
    ],
)
def test_imports_of_the_users_stay(imports, expected):
    cfg = local_config(custom_imports={'imports': imports})
    stock = stock_run_config(cfg)
    assert (stock.get('custom_imports') or {}).get('imports') == expected


@pytest.mark.parametrize('kind', ['CamVidDataset', CamVidDataset])
def test_the_package_is_imported_for_its_data_sets_only(kind):
    dataset = {'type': 'RepeatDataset', 'times': 2, 'dataset': {'type': kind}}
    cfg = local_config(
        custom_imports={'imports': ['infopro_seg']},
        train_dataloader={'dataset': dataset, 'sampler': {'type': 'SeededSampler'}},
    )
    stock = stock_run_config(cfg)
    assert stock.custom_imports.imports == ['infopro_seg']
    assert stock.train_dataloader.sampler.type == 'InfiniteSampler'


@pytest.mark.parametrize(
    'hooks',
    [
        [{'type': 'LocalTrainingHook'}, {'type': 'EMAHook'}],
        ({'type': LocalTrainingHook}, {'type': EMAHook}),
        [{'type': 'LocalBackwardHook'}, {'type': 'EMAHook'}],
    ],
)
def test_hooks_of_the_users_stay_and_ours_go(hooks):
    checkpoint = {'type': SafeCheckpointHook, 'interval': 7}
    cfg = local_config(custom_hooks=hooks, default_hooks={'checkpoint': checkpoint})
    stock = stock_run_config(cfg)
    assert [hook['type'] for hook in stock.custom_hooks] == [hooks[1]['type']]
    assert stock.default_hooks.checkpoint == {'type': 'CheckpointHook', 'interval': 7}


def trained(tmp_path, **settings):
    """A config and a checkpoint that belong together."""
    model = localized(deeplabv3(resnet(base_channels=8), WIDTHS), splits=['layer2.1'])
    weights = build(model).state_dict()
    torch.save({'state_dict': weights, **settings}, tmp_path / 'iter_1.pth')
    return Config({'model': model}), weights


@pytest.mark.parametrize('way', ['another network', 'a part', 'more'])
def test_weights_that_do_not_fit_are_not_exported(tmp_path, way):
    cfg, weights = trained(tmp_path)
    if way == 'another network':
        cfg.model.backbone.depth = 34
    else:
        if way == 'a part':
            weights.pop('decode_head.conv_seg.weight')
        else:
            weights['decode_head.extra.weight'] = torch.ones(1)
        torch.save({'state_dict': weights}, tmp_path / 'iter_1.pth')
    with pytest.raises(ValueError, match='do not belong together'):
        export(cfg, tmp_path / 'iter_1.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()
    assert not (tmp_path / 'out.py').exists()


def test_a_checkpoint_that_is_not_named_is_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match='which checkpoint.*work dir'):
        find_checkpoint(Config({}), 'config.py', None)
    with pytest.raises(FileNotFoundError, match='has no checkpoint'):
        find_checkpoint(Config({}), str(tmp_path), None)


@pytest.mark.parametrize('name', ['run.py', 'run.json', 'run.yml', 'run.yaml'])
def test_the_config_of_a_work_dir_is_found_in_any_form(tmp_path, name):
    local_config().dump(tmp_path / name)
    (tmp_path / 'scores.json').write_text('{"mIoU": 71.5}')
    (tmp_path / 'classes.json').write_text('["a", "b"]')
    cfg = read_trained_config(str(tmp_path))
    assert stock_run_config(cfg).model.type == 'EncoderDecoder'
    # JSON knows no tuples.
    assert len(build(cfg.model).local_modules) == 2


def test_a_folder_without_a_config_is_no_work_dir(tmp_path):
    (tmp_path / 'scores.json').write_text('{"mIoU": 71.5}')
    with pytest.raises(FileNotFoundError, match='has no config'):
        read_trained_config(str(tmp_path))
