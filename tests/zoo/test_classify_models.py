"""Every mmseg config is supported or refused with a reason; none crashes."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict

from infopro_seg.cli import classify_models
from infopro_seg.models.weightless import WithoutStorage
from infopro_seg.zoo.classify import classify_model
from tests.backbones import BACKBONES
from tests.helpers import deeplabv3

PAGE = Path(__file__).parents[2] / 'docs' / 'models.md'


def model(**changes):
    return ConfigDict({**deeplabv3(BACKBONES['resnet18'], (8, 16, 32, 64)), **changes})


def write_config(folder, name, network):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'model = {network.to_dict()!r}\n')


def test_weights_without_storage_cost_nothing_and_numbers_stay_real():
    with WithoutStorage():
        layer = torch.nn.Linear(2**20, 2**20)
        rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
    assert layer.weight.device.type == 'meta'
    assert rates == [0, 0.5, 1]


def test_a_supported_model_has_as_many_units_as_its_backbone():
    assert classify_model(model()) == ('ResNet', 9, '')


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'type': 'DepthEstimator'}, 'segmentor DepthEstimator has no local form'),
        (
            {'backbone': {'type': 'CGNet'}},
            'no units are known for backbone CGNet',
        ),
        ({'backbone': {'type': 'absent.Net'}}, 'needs absent, not installed'),
        ({'backbone': {'type': 'ResNet', 'depth': 19}}, 'mmseg cannot build it here: '),
    ],
)
def test_a_refused_model_comes_with_the_reason(changes, reason):
    assert classify_model(model(**changes))[2].startswith(reason)


def test_a_model_that_only_the_local_form_cannot_build_is_an_error(monkeypatch):
    def broken(*args):
        raise RuntimeError('a defect of ours')

    monkeypatch.setattr('infopro_seg.models.segmentor.probe_backbone', broken)
    with pytest.raises(RuntimeError, match='a defect of ours'):
        classify_model(model())


def test_the_tool_writes_a_page_and_all_verdicts(tmp_path, capsys):
    folder = tmp_path / 'configs'
    write_config(folder, 'a/good.py', model())
    write_config(folder, 'a/same.py', model())
    write_config(folder, 'b/bad.py', model(backbone={'type': 'CGNet'}))
    write_config(folder, '_base_/part.py', model())
    arguments = ['--configs', str(folder), '--json', str(tmp_path / 'models.json')]
    page = tmp_path / 'models.md'
    assert classify_models.main([*arguments, '--markdown', str(page)]) == 0
    assert '2 supported, 1 refused' in capsys.readouterr().out
    report = json.loads((tmp_path / 'models.json').read_text())
    assert [row['config'] for row in report['configs']] == [
        'a/good.py',
        'a/same.py',
        'b/bad.py',
    ]
    text = page.read_text()
    assert '| ResNet | 2 | 9 | 0 |  |' in text
    assert '| CGNet | 0 |  | 1 | no units are known for backbone CGNet (1) |' in text
    assert '| b/bad.py | no units are known for backbone CGNet |' in text
    classify_models.main([*arguments, '--one-per-combination'])
    assert '1 supported, 1 refused' in capsys.readouterr().out


def test_the_tool_refuses_a_folder_that_does_not_exist(tmp_path, capsys):
    assert classify_models.main(['--configs', str(tmp_path / 'none')]) == 2
    assert 'there is no folder' in capsys.readouterr().err


@pytest.mark.exhaustive
def test_every_combination_of_mmseg_is_as_docs_models_says(tmp_path):
    # One config for each combination of segmentor, backbone, neck and heads; that of
    # every single config is what the page was written from.
    report = tmp_path / 'models.json'
    classify_models.main(['--one-per-combination', '--json', str(report)])
    rows = json.loads(report.read_text())['configs']
    refused = dict(re.findall(r'^\| (\S+\.py) \| (.*) \|$', PAGE.read_text(), re.M))
    assert len(rows) > 70
    for row in rows:
        # Packages that the page was written with may be missing here, and back.
        if 'not installed' in row['reason'] or 'not installed' in refused.get(
            row['config'], ''
        ):
            continue
        assert row['reason'] == refused.get(row['config'], ''), row['config']
