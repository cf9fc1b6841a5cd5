"""What is read from the text log of a run."""

import datetime
import math

from infopro_seg.report.text_log import Message, read_text_log

from .run_folders import ENVIRONMENT, START, TABLE, line, step_line, write_attempt


def read(folder, *lines, name='20260102_030000'):
    write_attempt(folder, name, lines, [])
    return read_text_log(folder)


def test_progress_is_that_of_the_last_step(tmp_path):
    log = read(tmp_path, step_line(5, 40, 1), step_line(10, 40, 8))
    assert (log.iteration, log.max_iterations) == (10, 40)
    assert log.eta == '1 day, 0:00:40'
    assert log.last_line == START + datetime.timedelta(seconds=8)
    assert log.longest_gap == datetime.timedelta(seconds=7)


def test_a_checkpoint_tells_of_steps_that_were_not_logged(tmp_path):
    log = read(
        tmp_path, step_line(40, 42, 1), line('Saving checkpoint at 42 iterations')
    )
    assert log.iteration == 42


def test_epochs_are_iterations(tmp_path):
    log = read(
        tmp_path, line('Epoch(train)  [3][ 50/100]  lr: 1e-2  eta: 0:01:00  time')
    )
    assert (log.iteration, log.epoch_length) == (250, 100)


def test_the_last_table_of_classes_counts(tmp_path):
    log = read(tmp_path, line(TABLE.replace('61.25', '10.0')), line(TABLE))
    assert log.class_iou['road'] == 61.25
    assert math.isnan(log.class_iou['car'])
    assert list(log.class_iou) == ['road', 'car']


def test_versions_and_command(tmp_path):
    said = 'infopro_seg 1.2, command: python tools/train.py a.py --local num_modules=2'
    log = read(tmp_path, line(ENVIRONMENT), line(said))
    assert log.versions == {
        'Python': '3.11.7 (main)',
        'CUDA available': 'False',
        'PyTorch': '2.14.1+cu130',
        'MMEngine': '0.10.12',
        'infopro_seg': '1.2',
    }
    assert log.command == 'python tools/train.py a.py --local num_modules=2'


def test_warnings_and_errors_are_counted(tmp_path):
    warning = line('old setting\nName of parameter - ...', level='WARNING')
    log = read(tmp_path, warning, warning, line('broken', level='ERROR'))
    assert log.messages == [
        Message('WARNING', 'old setting', 2),
        Message('ERROR', 'broken', 1),
    ]


def test_attempts_are_read_in_order_and_tests_passed_over(tmp_path):
    later = START + datetime.timedelta(days=1)
    read(tmp_path, step_line(30, 40, 1, start=later), name='20260103_030000')
    read(tmp_path, line('Iter(test) [10/10]  mIoU: 1.0', 10**6), name='20260104_030000')
    log = read(tmp_path, line('begin'), step_line(20, 40, 1))
    assert log.iteration == 30
    assert log.starts == [START, later + datetime.timedelta(seconds=1)]
    assert log.last_line == later + datetime.timedelta(seconds=1)


def test_damaged_lines_are_passed_over(tmp_path):
    log = read(
        tmp_path, 'no record', '2026/99/99 00:00:00 - a - INFO - Iter(train) [9/9]'
    )
    assert log.iteration == 0
    assert log.last_line is None


def test_a_folder_without_a_log_is_empty(tmp_path):
    assert read_text_log(tmp_path).starts == []
