"""The measured peak is that of the planner's tracker, and training stays the same."""

import pytest
import torch

from infopro_seg.benchmark.peak_memory_hook import PeakMemoryHook
from infopro_seg.planner.profile.fake_step import track_step
from infopro_seg.report.run_log import read_run
from infopro_seg.report.run_numbers import measured_peak
from tests.engine.runs import assert_same_checkpoint, runner_of

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='the host measures memory on a GPU'
)


def train(work_dir, *hooks):
    runner = runner_of(work_dir, iterations=3, hooks=[*hooks])
    runner.train()
    return runner


def test_one_step_is_measured_and_nothing_changes(tmp_path):
    runner = train(tmp_path / 'with', PeakMemoryHook(iteration=1))
    train(tmp_path / 'without')
    assert_same_checkpoint(*(tmp_path / f'{x}/iter_3.pth' for x in ('with', 'without')))
    log = read_run(tmp_path / 'with')
    assert log.series['memory'][0] == [2, 3]
    # Batch and size of `loader`. On a CPU the optimizer updates weights one by one, so
    # that it needs no memory worth mention.
    step = track_step(runner.model, batch_size=2, crop_size=(64, 64))
    assert measured_peak(log) == pytest.approx(max(step.module_peaks), rel=0.05)


def test_a_negative_iteration_is_refused():
    with pytest.raises(ValueError, match='iteration=-1 must be 0 or more'):
        PeakMemoryHook(iteration=-1)
