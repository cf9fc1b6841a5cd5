"""One line turns a stock config into a local one."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from mmengine.config import Config

from infopro_seg.cli.check_model import build_weightless
from infopro_seg.datasets import check_datasets
from infopro_seg.settings.config import read_config
from infopro_seg.settings.localize import localize, write_localized
from tests.helpers import build, deeplabv3, localized

STOCK = 'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'


def test_a_stock_config_becomes_local_with_all_that_belongs_to_it():
    cfg = Config({'model': deeplabv3()})
    localize(cfg, {'num_modules': 3, 'head': {'preset': 'paper'}})
    assert cfg.model.type == 'InfoProEncoderDecoder'
    assert [hook.type for hook in cfg.custom_hooks] == ['LocalTrainingHook']
    assert cfg.find_unused_parameters
    assert cfg.custom_imports.imports == ['infopro_seg']
    assert len(build(cfg.model).local_modules) == 3


def test_what_the_config_has_is_kept_and_nothing_is_doubled():
    hooks = [{'type': 'EMAHook'}, {'type': 'LocalBackwardHook'}]
    cfg = Config(
        {
            'model': localized(deeplabv3(), splits=['layer2.1'], head='paper'),
            'custom_hooks': hooks,
            'custom_imports': {'imports': ['mine']},
        }
    )
    localize(cfg, {'num_modules': 4})
    assert [hook['type'] for hook in cfg.custom_hooks] == [
        'EMAHook',
        'LocalBackwardHook',
        'LocalTrainingHook',
    ]
    assert cfg.custom_imports.imports == ['mine', 'infopro_seg']
    assert cfg.model.local.head == 'paper'
    assert len(build(cfg.model).local_modules) == 4


def test_an_import_of_the_config_may_stand_without_a_list():
    # As in mmseg's ConvNeXt configs.
    cfg = Config({'model': deeplabv3(), 'custom_imports': {'imports': 'mine'}})
    localize(cfg, {'num_modules': 2})
    assert cfg.custom_imports.imports == ['mine', 'infopro_seg']


@pytest.mark.parametrize('allowed', [True, False, None])
def test_what_the_user_says_of_failed_imports_stays(tmp_path, allowed):
    imports = {'imports': ['no_such_module'] if allowed else ['json']}
    if allowed is not None:
        imports['allow_failed_imports'] = allowed
    stock = tmp_path / 'stock.py'
    stock.write_text(f'model = {deeplabv3()!r}\ncustom_imports = {imports!r}\n')
    out = tmp_path / 'mine.py'
    ignored = (
        pytest.warns(UserWarning, match='no_such_module') if allowed else nullcontext()
    )
    with ignored:
        cfg = read_config(stock)
        settings = localize(cfg, {'num_modules': 2})
        write_localized(cfg, str(stock), settings, out, force=False)
        for made in (cfg, read_config(out)):
            assert made.custom_imports.imports == [*imports['imports'], 'infopro_seg']
            assert made.custom_imports.allow_failed_imports is bool(allowed)


def test_the_written_config_is_the_localized_one(tmp_path):
    cfg = read_config(STOCK)
    settings = localize(cfg, {'splits': ['layer3.2'], 'weights': {'segmentation': 0.5}})
    write_localized(cfg, STOCK, settings, tmp_path / 'mine.py', force=False)
    read = Config.fromfile(tmp_path / 'mine.py')
    assert cfg.train_dataloader.sampler.type == 'SeededSampler'
    for key in ('model', 'custom_hooks', 'train_dataloader'):
        assert read[key] == cfg[key]


@pytest.mark.parametrize(
    'stock',
    [
        STOCK,
        # Rates of stochastic depth are computed on the way: they need real numbers.
        'mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py',
        pytest.param(
            'mmseg::ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py',
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_the_tool_names_the_modules_of_what_it_writes(stock):
    cfg = read_config(stock)
    localize(cfg, {'num_modules': 3})
    modules = build_weightless(cfg).local_modules
    assert [module.name for module in modules] == [
        'local_0',
        'local_1',
        'local_2',
    ]


@pytest.mark.parametrize(
    ('out', 'base'),
    [
        ('mine.py', './configs/stock.py'),
        ('configs/mine.py', './stock.py'),
        ('mine/k2.py', '../configs/stock.py'),
        ('/elsewhere/k2.py', None),
    ],
)
def test_the_base_is_named_so_that_the_project_can_be_moved(
    tmp_path, monkeypatch, out, base
):
    project = tmp_path / 'project'
    (project / 'configs').mkdir(parents=True)
    (project / 'configs/stock.py').write_text(f'model = {deeplabv3()!r}\n')
    monkeypatch.chdir(project)
    out = tmp_path / out[1:] if out.startswith('/') else project / out
    cfg = read_config('configs/stock.py')
    settings = localize(cfg, {'num_modules': 2})
    write_localized(cfg, 'configs/stock.py', settings, out, force=False)
    base = base or str(project / 'configs/stock.py')
    assert out.read_text().startswith(f'_base_ = {base!r}\n')
    assert Config.fromfile(out).model == cfg.model


@pytest.mark.parametrize('linked', ['config', 'folder of it', 'folder of the new one'])
def test_a_link_is_followed_as_the_host_follows_it(tmp_path, monkeypatch, linked):
    # The host finds ./base.py beside the link, not beside the file that it points to.
    project, store = tmp_path / 'project', tmp_path / 'store'
    for folder in (project / 'configs', store):
        folder.mkdir(parents=True)
    monkeypatch.chdir(project)
    (project / 'configs/base.py').write_text(f'model = {deeplabv3()!r}\n')
    text = "_base_ = './base.py'\n"
    base, out = 'configs/stock.py', 'mine/k2.py'
    if linked == 'config':
        (store / 'stock.py').write_text(text)
        Path(base).symlink_to(store / 'stock.py')
    else:
        Path(base).write_text(text)
    if linked == 'folder of it':
        Path('linked').symlink_to(project / 'configs')
        base = 'linked/stock.py'
    if linked == 'folder of the new one':
        Path('mine').symlink_to(store)
    cfg = read_config(base)
    settings = localize(cfg, {'num_modules': 2})
    write_localized(cfg, base, settings, out, force=False)
    named = f'../{base}' if not Path('mine').is_symlink() else str(project / base)
    assert Path(out).read_text().startswith(f'_base_ = {named!r}\n')
    assert Config.fromfile(out).model == cfg.model


def test_a_config_is_never_overwritten_unasked(tmp_path):
    out = tmp_path / 'mine.py'
    out.write_text('precious')
    with pytest.raises(FileExistsError, match='mine.py exists; pass --force'):
        write_localized(Config({}), STOCK, {}, out, force=False)
    assert out.read_text() == 'precious'


def test_another_segmentor_is_refused():
    cfg = Config({'model': {'type': 'mmseg.DepthEstimator'}})
    refusal = "'mmseg.DepthEstimator' cannot be cut.* CascadeEncoderDecoder"
    with pytest.raises(ValueError, match=refusal):
        localize(cfg, {'num_modules': 2})


def test_data_of_an_inherited_stock_config_are_checked():
    with pytest.raises(FileNotFoundError, match='prepare_cityscapes'):
        check_datasets(read_config(STOCK))
