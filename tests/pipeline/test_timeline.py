"""A recorded schedule is what happened, and what is made of it can be read."""

import json
import statistics

import pytest
import torch

from infopro_seg.cli.pipeline_speed import seconds_per_step, stages_of_one
from infopro_seg.report.timeline import (
    KINDS,
    Span,
    chrome_trace,
    draw_timelines,
    kind_of,
    read_timelines,
)
from tests.helpers import NARROW, WIDTHS, build, deeplabv3, localized
from tests.runs import run_training


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    torch.set_num_threads(1)
    config = deeplabv3(NARROW, WIDTHS)
    model = build(localized(config, splits=['layer2.1']))
    folder = tmp_path_factory.mktemp('timeline')
    hooks = [
        {'type': 'LocalBackwardHook'},
        {'type': 'TimelineHook', 'begin': 1, 'end': 4},
    ]
    runner = run_training(model, folder, hooks=hooks, iterations=5)
    return runner, read_timelines(folder)


def test_every_iteration_has_its_parts_in_order(run):
    (spans,) = run[1]
    for iteration in (1, 2, 3):
        found = {s.what: s for s in spans if s.iteration == iteration}
        names = ['wait', 'send', 'local_0', 'local_0 backward', 'local_1', 'step']
        assert set(found) == {*names, 'iteration'}
        whole, first = found['iteration'], found['local_0']
        assert whole.start <= found['wait'].start <= first.start
        assert first.start < found['send'].start < found['local_0 backward'].start
        assert found['local_0 backward'].end <= first.end <= found['local_1'].start
        assert found['local_1'].end == found['step'].start < found['step'].end
        assert found['step'].end == whole.end
    assert {s.iteration for s in spans} == {1, 2, 3}


def test_nothing_is_left_behind(run):
    model = run[0].model
    assert model.watchers == ()
    assert vars(model.stage) == {}


def test_the_stages_of_one_process_take_its_time(run):
    (spans,) = run[1]
    stages = stages_of_one(spans)

    def usual(what):
        return statistics.median(s.end - s.start for s in spans if s.what == what)

    rest = usual('iteration') - sum(map(usual, ('local_0', 'local_1', 'step')))
    busy = sum(stage.busy for stage in stages)
    # Both load the batch.
    assert busy == pytest.approx(usual('iteration') + rest)
    assert seconds_per_step(spans) > 0


def test_picture_and_trace(run, tmp_path):
    timelines = [*run[1], *run[1]]
    draw_timelines(timelines, tmp_path / 'picture.png')
    assert (tmp_path / 'picture.png').stat().st_size > 1000
    events = json.loads(chrome_trace(timelines))['traceEvents']
    assert {e['tid'] for e in events} == {0, 1}
    assert {e['cat'] for e in events if e['ph'] == 'X'} == set(KINDS)
    assert all(e['dur'] >= 0 for e in events if e['ph'] == 'X')


def test_kinds():
    whats = ['local_3', 'local_3 backward', 'step', 'send', 'wait']
    assert [kind_of(what) for what in whats] == list(KINDS)
    spans = [Span(i, 'iteration', i * 2.0, i * 2.0 + 1.5) for i in range(4)]
    assert seconds_per_step(spans) == 2.0


def test_a_run_without_a_record(tmp_path):
    with pytest.raises(FileNotFoundError, match="dict\\(type='TimelineHook'\\)"):
        read_timelines(tmp_path)
