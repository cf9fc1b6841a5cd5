"""The table of predicted memory: numbers of the planner, or the reason for none."""

import json
from pathlib import Path

import mmseg
import pytest

from infopro_seg.cli import memory_table as tool
from infopro_seg.planner.from_config import setting_of
from infopro_seg.planner.make import make_plan
from infopro_seg.zoo import memory_table
from infopro_seg.zoo.memory_table import REPRESENTATIVES
from tests.backbones import BACKBONES
from tests.helpers import deeplabv3
from tests.models.cascades import ocrnet_resnet
from tests.planner.networks import BATCH, CROP, tiny
from tests.units.networks import segmentor

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def write_config(path, model):
    model = {k: v for k, v in model.items() if k != 'local'}
    model['type'] = model['type'].replace('InfoPro', '')
    path.write_text(
        "default_scope = 'mmseg'\n"
        f'model = {model!r}\ntrain_dataloader = dict(batch_size=2)\n'
    )
    return str(path)


def small(path, model):
    return write_config(path, model), ['--crop-size', '64', '96', '--batch-size', '2']


@pytest.mark.exhaustive
def test_numbers_are_those_of_the_planner(tmp_path):
    config = write_config(tmp_path / 'tiny.py', tiny())
    sizes = {'batch_size': BATCH, 'crop_size': CROP}
    row = memory_table.measure(config, (1, 2, 3), local={}, **sizes)
    assert (row.reason, row.batch_size, row.crop_size) == ('', BATCH, CROP)
    stock = make_plan(setting_of(config, **sizes), num_modules=1)
    assert row.end_to_end_bytes == stock.predicted_peak_bytes
    setting = setting_of(config, local={}, **sizes)
    plan = make_plan(setting, num_modules=2)
    cell = row.cells[1]
    assert (cell.num_modules, cell.peak_bytes) == (2, plan.predicted_peak_bytes)
    assert cell.flops_overhead == plan.flops_overhead
    error = plan.predicted_peak_bytes / plan.tracked_peak_bytes - 1
    assert row.prediction_error == error
    assert row.cells[0].flops_overhead == 0
    assert row.checkpointing.peak_bytes == stock.checkpointing_peak_bytes
    assert row.checkpointing.num_modules == 1
    # Nothing that fits in less memory is as cheap.
    exact = row.exact
    assert exact.flops_overhead <= memory_table.MOST_EXACT_WORK
    settings = {'reserve': 0, 'exact': True}
    same = make_plan(setting, gpu_memory=exact.peak_bytes, **settings)
    assert same.fits and same.flops_overhead == exact.flops_overhead
    less = make_plan(setting, gpu_memory=exact.peak_bytes - 1, **settings)
    assert not less.fits or less.flops_overhead > memory_table.MOST_EXACT_WORK


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', ['mit', 'hrnet', 'cascade'])
def test_other_families_have_numbers_too(tmp_path, name):
    model = ocrnet_resnet() if name == 'cascade' else segmentor(name)
    config, sizes = small(tmp_path / f'{name}.py', model)
    out = tmp_path / 'rows.json'
    counts = ['--num-modules', '4', '1', '2']
    assert tool.main(['--configs', config, *sizes, *counts, '--json', str(out)]) == 0
    (row,) = json.loads(out.read_text())
    assert row['reason'] == ''
    assert [cell['num_modules'] for cell in row['cells']] == [1, 2, 4]
    assert abs(row['prediction_error']) < 0.05


@pytest.mark.exhaustive
def test_more_modules_than_units_are_as_many_as_there_are_units(tmp_path):
    config = write_config(tmp_path / 'tiny.py', tiny())
    row = memory_table.measure(
        config, (1, 99), local={}, batch_size=2, crop_size=(64, 64)
    )
    assert [cell.num_modules for cell in row.cells] == [1, 7]


def test_what_cannot_be_local_is_left_out_with_the_reason(tmp_path, capsys):
    refused = deeplabv3({'type': 'CGNet'}, (8, 8, 8, 8))
    absent = deeplabv3({'type': 'absent.Net'}, (8, 8, 8, 8))
    configs = [
        write_config(tmp_path / 'cgnet.py', refused),
        write_config(tmp_path / 'absent.py', absent),
    ]
    page = tmp_path / 'page.md'
    assert tool.main(['--configs', *configs, '--page', str(page)]) == 0
    assert '- cgnet: no units are known for backbone CGNet' in page.read_text()
    assert '- absent: needs absent, not installed' in capsys.readouterr().out


def test_an_error_of_ours_is_a_reason_too_and_the_exit_code(tmp_path, monkeypatch):
    def broken(*args):
        raise RuntimeError('a defect of ours. And more')

    monkeypatch.setattr(memory_table, '_measured', broken)
    model = deeplabv3(BACKBONES['resnet18'], (8, 16, 32, 64))
    config, sizes = small(tmp_path / 'tiny.py', model)
    page = tmp_path / 'page.md'
    assert tool.main(['--configs', config, *sizes, '--page', str(page)]) == 1
    assert '- tiny: RuntimeError: a defect of ours\n' in page.read_text()


def test_the_tool_wants_a_number_of_modules(capsys):
    with pytest.raises(SystemExit):
        tool.main(['--num-modules', '0'])
    assert '--num-modules [0] must be 1 or more' in capsys.readouterr().err


def test_the_page_has_a_row_or_a_reason_for_every_representative():
    page = (ROOT / 'docs' / 'models.md').read_text()
    folder = Path(mmseg.__file__).parent / '.mim' / 'configs'
    for name in REPRESENTATIVES:
        assert (folder / name).is_file()
        stem = Path(name).stem
        assert f'| {stem} |' in page or f'- {stem}: ' in page
