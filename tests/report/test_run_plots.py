"""From a run's JSON log to a picture."""

import json

import pytest
from PIL import Image

from infopro_seg.cli import plot_run
from infopro_seg.report.run_log import read_run

TRAIN = {'lr': 0.01, 'local_0.loss_recon': 0.5, 'decode.loss_ce': 1.0, 'loss': 1.5}
COST = {'local_0.saved_gib': 0.2, 'local_0.seconds': 0.1, 'local_0.grad_norm': 3.0}


@pytest.fixture
def write(tmp_path):
    def write(name, *entries, tail=''):
        path = tmp_path / name / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text('\n'.join(map(json.dumps, entries)) + tail)

    return write


def test_a_resumed_run_is_one_run(tmp_path, write):
    write('20260101_000000', {'loss': 3.0, 'step': 1}, {'loss': 2.0, 'step': 2})
    write('20260102_000000', {'loss': 2.5, 'step': 2}, {'mIoU': 40.0, 'step': 3})
    log = read_run(tmp_path)
    assert log.series == {'loss': ([1, 2], [3.0, 2.5]), 'mIoU': ([3], [40.0])}


def test_times_of_validation_are_not_those_of_training(tmp_path, write):
    train = {'time': 1.5, 'data_time': 0.5, 'iter': 2, 'step': 2}
    write('a', train, {'mIoU': 40.0, 'time': 0.25, 'step': 2})
    series = read_run(tmp_path).series
    assert series['time'] == ([2], [1.5])
    assert series['validation.time'] == ([2], [0.25])


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path, write):
    write('a', {'loss': 3.0, 'step': 1}, tail='\n{"loss": 2.')
    assert read_run(tmp_path).series == {'loss': ([1], [3.0])}


def test_a_damaged_line_is_named(tmp_path, write):
    write('a', {'loss': 3.0, 'step': 1}, tail='\n{"loss": 2.\n{"loss": 1, "step": 3}')
    with pytest.raises(ValueError, match='scalars.json, line 2'):
        read_run(tmp_path)


@pytest.mark.slow
def test_the_picture_has_a_panel_for_all_that_was_logged(tmp_path, write, capsys):
    lines = [{**TRAIN, **COST, 'step': i} for i in range(3)]
    write('a', *lines, {'mIoU': 40.0, 'step': 3})
    assert plot_run.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for panel in ('Losses', 'Validation', 'Learning rate', 'Activations', 'Gradients'):
        assert panel in said
    assert 'Peak' not in said
    with Image.open(tmp_path / 'run.png') as image:
        assert image.format == 'PNG'
        assert image.height > image.width
    assert plot_run.main([str(tmp_path)]) == 1
    assert 'run.png exists; give --force' in capsys.readouterr().err


def test_a_folder_without_a_log_is_named(tmp_path, capsys):
    assert plot_run.main([str(tmp_path)]) == 1
    assert 'no */vis_data/scalars.json in' in capsys.readouterr().err


def test_a_log_without_known_numbers_is_said(tmp_path, write, capsys):
    write('a', {'other': 1.0, 'step': 1})
    assert plot_run.main([str(tmp_path)]) == 1
    assert "nothing to draw; it holds ['other']" in capsys.readouterr().err
