"""When a run counts as running, finished or stopped."""

import datetime

import pytest

from infopro_seg.report.run_log import RunLog
from infopro_seg.report.run_state import state_of
from infopro_seg.report.text_log import TextLog

NOW = datetime.datetime(2026, 1, 2, 12, 0, 0)


def judge(iteration, *, minutes=1, scored=(), gap=0, most=100, **settings):
    text = TextLog(
        last_line=NOW - datetime.timedelta(minutes=minutes),
        longest_gap=datetime.timedelta(minutes=gap),
        iteration=iteration,
        max_iterations=most,
        eta='0:10:00',
    )
    series = {'loss': ([iteration], [1.0])} if iteration else {}
    if scored:
        series['mIoU'] = (list(scored), [40.0] * len(scored))
    return state_of(RunLog(series), text, NOW, **settings)


def test_all_iterations_and_the_last_validation_are_finished():
    assert judge(100, scored=(50, 100), minutes=9999).name == 'finished'
    assert judge(100, minutes=9999).name == 'finished'


def test_a_recent_line_is_a_running_run():
    state = judge(40)
    assert state.name == 'running'
    assert 'About 0:10:00 left' in state.sentence
    assert (state.iteration, state.max_iterations) == (40, 100)


@pytest.mark.parametrize(
    ('gap', 'name'), [(0, 'stopped'), (10, 'stopped'), (21, 'running')]
)
def test_silence_is_measured_by_the_longest_pause(gap, name):
    state = judge(40, minutes=60, gap=gap)
    assert state.name == name
    assert '60 minutes ago' in state.sentence


def test_a_validation_that_is_missing_is_said():
    running = judge(100, scored=(50,))
    assert running.name == 'running'
    assert 'last validation is not logged yet' in running.sentence
    stopped = judge(100, minutes=600, validates=True)
    assert stopped.name == 'stopped'
    assert 'the last validation is not' in stopped.sentence


def test_a_run_that_has_just_begun_is_running():
    state = judge(0, most=None, max_iterations=80)
    assert (state.name, state.iteration, state.max_iterations) == ('running', 0, 80)


def test_without_a_text_log_the_numbers_decide():
    log = RunLog({'loss': ([80], [1.0])})
    assert state_of(log, TextLog(), NOW, max_iterations=80).name == 'finished'
    assert state_of(log, TextLog(), NOW, max_iterations=90).name == 'stopped'
    assert state_of(RunLog({}), TextLog(), NOW).name == 'not started'


def test_a_clock_that_is_ahead_is_no_negative_time():
    assert '0 seconds ago' in judge(40, minutes=-30).sentence
