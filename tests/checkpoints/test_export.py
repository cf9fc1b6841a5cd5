"""What is exported is whole: a config that builds where this package never was."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmseg.apis import init_model
from mmseg.models.decode_heads import ASPPHead
from mmseg.registry import MODELS
from torch import nn

from infopro_seg.checkpoints.export import (
    export,
    find_checkpoint,
    read_trained_config,
    stock_run_config,
)
from infopro_seg.datasets import CamVidDataset
from infopro_seg.engine import LocalTrainingHook, SafeCheckpointHook
from infopro_seg.settings.config import model_config
from tests.helpers import WIDTHS, build, deeplabv3, localized, resnet


@MODELS.register_module()
class PlacedHead(ASPPHead):
    """Adds a table to its map, which must have that size."""

    def __init__(self, side, **settings):
        super().__init__(**settings)
        self.table = nn.Parameter(torch.zeros(1, self.in_channels, side, side))

    def _transform_inputs(self, inputs):
        return super()._transform_inputs(inputs) + self.table


def local_config(**settings):
    model = localized(deeplabv3(), num_modules=2)
    return Config({'default_scope': 'mmseg', 'model': model, **settings})


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
    return Config({'default_scope': 'mmseg', 'model': model}), weights


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


@pytest.mark.parametrize('place', ['preprocessor', 'pipeline', 'test', 'nowhere'])
def test_a_network_of_one_size_is_exported(tmp_path, place):
    # Neither 128x128 nor 512x512 passes its table of positions.
    cfg, _ = trained(tmp_path)
    side = 96
    table = torch.zeros(1, WIDTHS[-1], side // 8, side // 8)
    cfg.model.decode_head.update(type='PlacedHead', side=side // 8)
    cfg.model.data_preprocessor.size = side if place == 'preprocessor' else None
    if place == 'test':
        cfg.model.test_cfg = {'mode': 'slide', 'crop_size': side, 'stride': side}
    if place == 'pipeline':
        cfg.train_pipeline = [{'type': 'RandomCrop', 'crop_size': (side, side)}]
    checkpoint = torch.load(tmp_path / 'iter_1.pth')
    checkpoint['state_dict']['decode_head.table'] = table
    torch.save(checkpoint, tmp_path / 'iter_1.pth')
    report = export(cfg, tmp_path / 'iter_1.pth', tmp_path / 'out.pth')
    assert (tmp_path / 'out.py').exists()
    is_tried = 'not tried' not in report
    assert is_tried == (place != 'nowhere')
    if not is_tried:
        assert 'No image of 128x128, 512x512 passed the network' in report
        assert 'RuntimeError: The size of tensor' in report


def test_a_network_that_takes_more_than_images_is_exported(tmp_path, monkeypatch):
    def fail(*_):
        raise NotImplementedError

    cfg, weights = trained(tmp_path)
    monkeypatch.setattr('mmseg.models.EncoderDecoder.encode_decode', fail)
    report = export(cfg, tmp_path / 'iter_1.pth', tmp_path / 'out.pth')
    assert 'the last stopped with NotImplementedError.' in report
    exported = torch.load(tmp_path / 'out.pth')['state_dict']
    own = [key for key in weights if not key.startswith('local_heads.')]
    assert [*exported] == own
    assert all(torch.equal(exported[key], weights[key]) for key in own)


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


@pytest.mark.parametrize('place', ['model', 'top level', 'both'])
def test_an_exported_model_prepares_images_as_the_trained_one(tmp_path, place):
    # mmseg.apis.init_model knows no top-level preprocessor; the Runner does.
    cfg = local_config(default_scope='mmseg')
    if place == 'top level':
        cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    if place == 'both':
        cfg.data_preprocessor = {'type': 'SegDataPreProcessor'}
    network = build(model_config(cfg))
    torch.save(network.state_dict(), tmp_path / 'run.pth')
    export(cfg, tmp_path / 'run.pth', tmp_path / 'stock.pth')
    stock = init_model(str(tmp_path / 'stock.py'), device='cpu')
    assert torch.equal(stock.data_preprocessor.mean, network.data_preprocessor.mean)
    assert torch.equal(stock.data_preprocessor.std, network.data_preprocessor.std)
