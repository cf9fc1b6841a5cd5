"""Contract: weights are those of stock mmseg, plus local heads."""

import copy

import pytest
import torch
from mmengine.config import Config

from infopro_seg.checkpoints.export import export
from infopro_seg.checkpoints.files import stock_state_dict
from infopro_seg.settings.localize import stock_model_config
from tests.helpers import build, deeplabv3, localized, resnet
from tests.runs import run_training

LOCAL = localized(deeplabv3(), num_modules=3)


def test_a_stock_checkpoint_loads_with_exactly_the_local_heads_missing():
    model = build(LOCAL)
    stock = build(deeplabv3(), seed=1).state_dict()
    missing, unexpected = model.load_state_dict(stock, strict=False)
    assert not unexpected
    heads = {name for name in model.state_dict() if name.startswith('local_heads.')}
    # torch fills in the step counters of norm layers that a checkpoint lacks.
    counters = {name for name in heads if name.endswith('num_batches_tracked')}
    assert set(missing) == heads - counters
    assert missing


def test_the_stock_part_predicts_the_same_logits():
    local = build(LOCAL)
    stock = build(stock_model_config(LOCAL), seed=1)
    stock.load_state_dict(stock_state_dict(local.state_dict()), strict=True)
    image = torch.randn(2, 3, 64, 64)
    for model in (local, stock):
        model.eval()
    with torch.no_grad():
        assert torch.equal(local(image, mode='tensor'), stock(image, mode='tensor'))


def test_local_heads_do_not_run_in_inference():
    model = build(LOCAL)
    for head in model.local_heads.modules():
        head.register_forward_hook(lambda *_: pytest.fail('a local head ran'))
    model.eval()
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64), mode='tensor')
        model(torch.randn(1, 3, 64, 64), mode='predict')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    runner = run_training(LOCAL, folder / 'run')
    runner.save_checkpoint(str(folder), 'trained.pth')
    return folder / 'trained.pth'


def test_an_exported_checkpoint_is_a_stock_one(trained, tmp_path):
    out = tmp_path / 'stock.pth'
    report = export(
        Config({'default_scope': 'mmseg', 'model': copy.deepcopy(LOCAL)}), trained, out
    )
    assert 'of local heads left out' in report
    stock = build(Config.fromfile(out.with_suffix('.py')).model, seed=2)
    exported = torch.load(out, weights_only=True)
    stock.load_state_dict(exported['state_dict'], strict=True)
    trained_weights = torch.load(trained, weights_only=False)['state_dict']
    for name, value in stock.state_dict().items():
        assert torch.equal(value, trained_weights[name])
    assert exported['meta']['dataset_meta']['classes'] == list('abcde')


def test_export_refuses_to_overwrite(trained, tmp_path):
    out = tmp_path / 'stock.pth'
    out.write_text('precious')
    with pytest.raises(FileExistsError, match=r'stock.pth exists; pass --force'):
        export(
            Config({'default_scope': 'mmseg', 'model': copy.deepcopy(LOCAL)}),
            trained,
            out,
        )
    assert out.read_text() == 'precious'


def test_export_refuses_a_config_of_another_model(trained, tmp_path):
    other = Config(
        {
            'default_scope': 'mmseg',
            'model': localized(deeplabv3(resnet(34)), num_modules=2),
        }
    )
    with pytest.raises(ValueError, match='do not belong together.*missing keys: back'):
        export(other, trained, tmp_path / 'stock.pth')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('cut', [{'num_modules': 4}, {'gpu_memory': '11GiB'}])
def test_export_does_not_care_how_the_config_cuts(trained, tmp_path, cut):
    cfg = Config(
        {'default_scope': 'mmseg', 'model': {**copy.deepcopy(LOCAL), 'local': cut}}
    )
    export(cfg, trained, tmp_path / 'stock.pth')
    local = build(LOCAL, seed=3)
    local.load_state_dict(torch.load(trained, weights_only=False)['state_dict'])
    stock = build(Config.fromfile(tmp_path / 'stock.py').model, seed=4)
    weights = torch.load(tmp_path / 'stock.pth', weights_only=True)['state_dict']
    stock.load_state_dict(weights)
    image, meta = torch.randn(1, 3, 64, 64), {'img_shape': (64, 64)}
    with torch.no_grad():
        left, right = (
            network.eval().encode_decode(image, [meta]) for network in (local, stock)
        )
    assert torch.equal(left, right)
