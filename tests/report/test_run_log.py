"""The numbers of a run, over all its attempts."""

import json
import math

import pytest

from infopro_seg.report.run_log import read_run


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


def test_a_run_that_was_started_again_forgets_the_first_attempt(tmp_path, write):
    write('20260101_000000', {'loss': 3.0, 'step': 5}, {'loss': 2.0, 'step': 10})
    write('20260102_000000', {'loss': 4.0, 'step': 5})
    assert read_run(tmp_path).series == {'loss': ([5], [4.0])}


def test_a_resumed_run_keeps_the_score_before_its_checkpoint(tmp_path, write):
    score = {'mIoU': 40.0, 'step': 10}
    write('20260101_000000', score, {'loss': 2.0, 'step': 15}, {'lr': 1.0, 'step': 20})
    write('20260102_000000', {'loss': 2.5, 'step': 15})
    assert read_run(tmp_path).series == {'mIoU': ([10], [40.0]), 'loss': ([15], [2.5])}


def test_losses_that_are_not_finite_are_kept(tmp_path, write):
    write('a', {'loss': math.nan, 'step': 1}, {'loss': math.inf, 'step': 2})
    iterations, values = read_run(tmp_path).series['loss']
    assert iterations == [1, 2]
    assert math.isnan(values[0])
    assert values[1] == math.inf


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no .*scalars.json in'):
        read_run(tmp_path)
