"""The report command: on a run of tools/train.py, and what it says of bad input."""

import re
import sys

import pytest

from infopro_seg.cli import report, train
from infopro_seg.cli.read_run import read_work_dir
from tests.report.run_folders import SOON, write_run
from tests.report.test_page import Parsed

CONFIG = """
_base_ = ['{root}/configs/infopro_deeplabv3_r18_streets.py']
custom_hooks = [dict(type='LocalTrainingHook', monitor_interval=1)]
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(base_channels=8),
    decode_head=dict(in_channels=64, channels=16),
    auxiliary_head=dict(in_channels=32, channels=8),
    local=dict(splits=['layer2.1'], recompute=['layer1.0']))
total_batch_size = 2
small = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(size=(64, 64)), **small)
val_dataloader = dict(dataset=dict(size=(64, 64), num_scenes=2), **small)
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


def call(monkeypatch, command, *args):
    monkeypatch.setattr(sys, 'argv', ['tool.py', *map(str, args)])
    command.main()


@pytest.mark.exhaustive
def test_a_run_of_the_train_command_is_reported(tmp_path, monkeypatch, request):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config = tmp_path / 'small.py'
    config.write_text(CONFIG.format(root=request.config.rootpath))
    work_dir = tmp_path / 'small run'
    call(monkeypatch, train, config, '--work-dir', work_dir)
    call(monkeypatch, report, work_dir, '--samples', 1)
    page = (work_dir / 'report.html').read_text()
    text = Parsed(page).text
    assert 'finished 2 of 2 iterations' in text
    assert re.search(r'ResNetV1c 18 with ASPPHead', text)
    assert 'layer1.0 ↻' in text
    assert 'splits layer2.1' in text
    assert f"command python tools/train.py {config} --work-dir '{work_dir}'" in text
    assert re.search(r'predicted peak memory \d+ MiB \d+ % of end-to-end', text)
    assert re.search(r'local_0 \d+ MiB \d+ % \d+ MiB \d+ MiB', text)
    assert re.search(r'mIoU [\d.]+ % at iteration 2', text)
    assert re.search(r'bicycle [\d.]+', text)
    for kind in ('image', 'label', 'prediction', 'local_0'):
        assert f'alt="{kind} of sample 1"' in page


def failing(monkeypatch, capsys, *args):
    with pytest.raises(SystemExit):
        call(monkeypatch, report, *args)
    return capsys.readouterr().err.splitlines()[-1]


def test_bad_options_are_one_sentence(tmp_path, monkeypatch, capsys):
    said = failing(monkeypatch, capsys, tmp_path, '--samples', -1)
    assert '--samples -1: give 0 (none) or more' in said
    said = failing(monkeypatch, capsys, tmp_path, tmp_path / 'b')
    assert 'with several work dirs, give --out FILE' in said
    said = failing(monkeypatch, capsys, tmp_path, '--out', 'config.py')
    assert '--out config.py: give a file that ends in .html' in said


def test_folders_that_hold_no_run_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='work dir .*nowhere does not exist'):
        call(monkeypatch, report, tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='neither the config nor the log of a run'):
        call(monkeypatch, report, tmp_path)
    write_run(tmp_path)
    out = tmp_path / 'page.html'
    with pytest.raises(ValueError, match='given twice'):
        call(monkeypatch, report, tmp_path, tmp_path, '--out', out)


def test_runs_of_the_same_name_are_told_apart(tmp_path, monkeypatch):
    folders = [write_run(tmp_path / name / 'run') for name in ('one', 'two')]
    out = tmp_path / 'new' / 'page.html'
    call(monkeypatch, report, *folders, '--out', out, '--samples', 0, '--no-predict')
    text = Parsed(out.read_text()).text
    assert 'one/run' in text
    assert 'two/run' in text


def test_what_cannot_be_found_out_is_a_sentence(tmp_path):
    model = "model = dict(type='EncoderDecoder', backbone=dict(type='CGNet'))"
    run = read_work_dir(write_run(tmp_path, config=model), 'run', SOON)
    assert 'The network cannot be shown: ' in run.missing['network']
    broken = read_work_dir(write_run(tmp_path / 'b', config='x = ('), 'run', SOON)
    assert 'The config cannot be read: ' in broken.missing['config']
    assert broken.network is broken.plan is broken.samples is None
