"""Every config builds the model it promises."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmseg.registry import MODELS

import tests.helpers  # noqa: F401  registers everything
from infopro_seg.models.weightless import WithoutStorage
from infopro_seg.planner.from_config import setting_of
from infopro_seg.planner.make import make_plan
from infopro_seg.settings.config import leaf_datasets, read_config, type_name
from infopro_seg.settings.localize import localize
from infopro_seg.zoo.classify import missing_packages
from tests.samples import some_of

CONFIGS = sorted((Path(__file__).parents[1] / 'configs').glob('*.py'))
PAGE = CONFIGS[0].parents[1] / 'docs' / 'models.md'
# Stock recipes with cuts by the planner.
FROM_MMSEG = [
    path
    for path in CONFIGS
    if "_base_ = 'mmseg::" in path.read_text() and 'splits=' in path.read_text()
]


def load(path):
    """The config; skips the test if it needs a package that is optional."""
    cfg = Config.fromfile(path, import_custom_modules=False)
    missing = missing_packages(cfg.model)
    if missing:
        pytest.skip(f'needs {", ".join(missing)}, which is not installed')
    return cfg


def build_model(cfg):
    """The model without weights; nothing is downloaded."""
    model = cfg.model
    model.pop('pretrained', None)
    model.backbone.init_cfg = None
    with WithoutStorage():
        return MODELS.build(model)


@pytest.mark.parametrize(
    'path',
    some_of(CONFIGS, *(p for p in CONFIGS if 'r18' in p.stem or 'mit' in p.stem)),
    ids=lambda path: path.stem,
)
def test_config_builds_and_trains_as_its_name_says(path):
    cfg = load(path)
    model = build_model(cfg)
    num_modules = len(model.local_modules)
    if path.stem.startswith('end-to-end'):
        assert num_modules == 1
    else:
        assert num_modules >= 2
    assert [hook.type for hook in cfg.custom_hooks] == ['LocalTrainingHook']
    assert cfg.find_unused_parameters
    splits = cfg.model.local.get('splits') or []
    ends = [module.units[-1].name for module in model.local_modules if module.units]
    assert ends[: len(splits)] == list(splits)
    crops = [step for step in cfg.train_pipeline if step.type == 'RandomCrop']
    for crop in crops:
        assert tuple(crop.crop_size) == tuple(cfg.model.data_preprocessor.size)
    in_use = [
        step
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'RandomCrop'
    ]
    assert [step.crop_size for step in in_use] == [step.crop_size for step in crops]


@pytest.mark.parametrize('path', FROM_MMSEG, ids=lambda path: path.stem)
def test_a_ready_made_config_is_what_localize_makes_of_a_stock_one(path):
    # Nothing of the recipe is changed: network, weights to start from, data, optimizer.
    cfg = load(path)
    base = re.search(r"^_base_ = '(mmseg::.*)'$", path.read_text(), re.M)[1]
    expected = read_config(base)
    localize(expected, cfg.model.local.to_dict())
    assert cfg.to_dict() == expected.to_dict()
    assert len(cfg.model.local.splits) == 3


@pytest.mark.parametrize('path', FROM_MMSEG, ids=lambda path: path.stem)
def test_a_ready_made_config_names_the_command_that_cut_it(path):
    text = path.read_text()
    base = re.search(r"^_base_ = '(mmseg::.*)'$", text, re.M)[1]
    assert f'python tools/plan.py {base} ' in text
    assert '--num-modules 4 --recompute never' in text
    whole, local, share = re.search(
        r'([\d.]+) GiB end-to-end, ([\d.]+) GiB so \((\d+)%',
        text.replace('\n# ', ' '),
    ).groups()
    assert round(100 * float(local) / float(whole)) == int(share)
    extra = re.search(r'\+([\d.]+)% FLOPs', text)[1]
    page = PAGE.read_text()
    row = re.search(rf'^\| `{path.name}`.*$', page, re.M)[0]
    assert row.endswith(f'| {whole} | {local} ({share}%) | {extra}% |')


# Two of them: measuring all at their real sizes takes minutes.
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    'path',
    [p for p in FROM_MMSEG if 'pspnet_r101' in p.name or 'segformer' in p.name],
    ids=lambda path: path.stem,
)
def test_the_planner_still_cuts_a_ready_made_config_like_this(
    path, tmp_path, monkeypatch
):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    cfg = load(path)
    text = path.read_text()
    base = re.search(r"^_base_ = '(mmseg::.*)'$", text, re.M)[1]
    local = {k: v for k, v in cfg.model.local.items() if k != 'splits'}
    setting = setting_of(base, local=local)
    plan = make_plan(setting, num_modules=4, recompute='never', verify=False)
    assert list(plan.splits) == list(cfg.model.local.splits)
    stock = make_plan(setting_of(base), num_modules=1, verify=False)
    for peak in (plan.predicted_peak_bytes, stock.predicted_peak_bytes):
        assert f'{peak / 2**30:.2f} GiB' in text
    assert f'+{100 * plan.flops_overhead:.1f}% FLOPs' in text


def test_the_main_config_is_the_papers_setting():
    cfg = load(CONFIGS[0].parent / 'infopro_deeplabv3_r101_cityscapes.py')
    model = build_model(cfg)
    assert [m.units[-1].name for m in model.local_modules] == ['layer3.12', 'layer4.2']
    head = model.local_heads[0]
    assert (head.reconstruction_weight, head.segmentation_weight) == (1.5, 1.0)
    assert type(head.segmentation).__name__ == 'FCNHead'
    assert head.segmentation.channels == 512
    assert cfg.total_batch_size == 8
    assert cfg.train_cfg.max_iters == 40000
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        0.01,
        0.9,
        0.0005,
    )


INDEX = yaml.safe_load((CONFIGS[0].parent / 'metafile.yml').read_text())
DATA = {
    'CityscapesDataset': 'Cityscapes',
    'CamVidDataset': 'CamVid',
    'ADE20KDataset': 'ADE20K',
    'DrawnStreetDataset': 'drawn street scenes',
}


def test_the_index_lists_every_config_once():
    root = CONFIGS[0].parents[1]
    index = yaml.safe_load((root / 'model-index.yml').read_text())
    assert index == {'Import': ['configs/metafile.yml']}
    assert [root / entry['Config'] for entry in INDEX['Models']] == CONFIGS
    collections = {entry['Name']: entry for entry in INDEX['Collections']}
    for entry in INDEX['Models']:
        data = collections[entry['In Collection']]['Metadata']['Training Data']
        assert entry['Metadata']['Training Data'] in data
    used = {entry['In Collection'] for entry in INDEX['Models']}
    assert used == set(collections)


@pytest.mark.parametrize('entry', INDEX['Models'], ids=lambda entry: entry['Name'])
def test_the_index_says_what_the_config_does(entry):
    path = CONFIGS[0].parents[1] / entry['Config']
    assert entry['Name'] == path.stem
    cfg = Config.fromfile(path, import_custom_modules=False)
    said = entry['Metadata']
    (dataset,) = leaf_datasets(cfg.train_dataloader.dataset)
    assert said['Training Data'] == DATA[type_name(dataset)]
    # Stock recipes have GPUs and images per GPU in their names.
    of_base = re.search(r"'mmseg::.*_(\d+)xb(\d+)-", path.read_text())
    total = int(of_base[1]) * int(of_base[2]) if of_base else cfg.total_batch_size
    assert said['Batch Size'] == total
    assert said['Iterations'] == cfg.train_cfg.max_iters
    local = cfg.model.local
    count = local.get('num_modules') or len(local.splits) + 1
    assert said['Local Modules'] == count
    assert len(said['Architecture']) == 2


def test_only_what_was_run_has_results_in_the_index():
    scores = {
        entry['Name']: [result['Metrics']['mIoU'] for result in entry['Results']]
        for entry in INDEX['Models']
        if 'Results' in entry
    }
    assert scores == {'infopro_deeplabv3_mobilenet-v2_camvid': [40.68]}
    page = CONFIGS[0].parents[1] / 'results' / 'camvid.md'
    assert '**40.68** after 800 iterations' in page.read_text()
