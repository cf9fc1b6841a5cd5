import pytest

from infopro_seg.benchmark.largest import Largest, best_plans, largest_sizes
from infopro_seg.benchmark.methods import methods
from infopro_seg.benchmark.steps import Measured
from infopro_seg.benchmark.summary import summarised
from infopro_seg.planner.limits import chain_by_batch
from infopro_seg.planner.make import Setting
from infopro_seg.planner.search.totals import predicted_peak
from infopro_seg.report.benchmark_text import largest_report, methods_report
from infopro_seg.report.plots import plot_benchmark
from tests.planner.networks import tiny

SETTING = Setting(tiny(), 2, (64, 96))


@pytest.fixture(scope='module')
def compared():
    return methods(SETTING, ['local', 'end_to_end'], [2])


def test_time_ratios_are_of_the_same_round(compared):
    # A machine that becomes ten times slower changes both, not their ratio.
    local = Measured((1.0, 20.0, 2.0), 50)
    whole = Measured((2.0, 20.0, 2.0), 100)
    first, second = summarised(compared, [local, whole])
    assert first['time_ratio'] == 1.0
    assert first['time_ratio_quartiles'] == [0.75, 1.0]
    assert first['median_seconds'] == 2.0
    assert first['images_per_second'] == 1.0
    assert first['peak_ratio'] == 0.5
    assert second['time_ratio'] == second['peak_ratio'] == 1


def test_without_steps_there_are_predictions_only(compared):
    entries = summarised(compared, [None, None])
    assert all('time_ratio' not in entry for entry in entries)
    assert entries[0]['predicted_peak_ratio'] < 1
    assert entries[1]['predicted_peak_ratio'] == 1
    report = methods_report(entries)
    assert 'local K=2' in report
    assert 'out of memory' not in report


@pytest.mark.exhaustive
def test_the_largest_batch_fits_and_one_more_does_not(compared):
    card = 3 * compared[0].predicted_peak_bytes
    for method, found in zip(compared, largest_sizes(compared, [card], 0), strict=True):
        chain_of = chain_by_batch(method.setting)
        peaks = [
            predicted_peak(chain_of(found.batch_size + more), method.partition)
            for more in (0, 1)
        ]
        assert peaks[0] <= card < peaks[1]
        rows, columns = found.crop_size
        assert rows % 32 == columns % 32 == 0


@pytest.mark.exhaustive
def test_the_planner_may_do_better_than_fixed_cuts(compared):
    card = 2 * compared[0].predicted_peak_bytes
    (best,) = best_plans(SETTING, [card], 0)
    assert best.batch_size >= largest_sizes(compared, [card], 0)[0].batch_size
    report = largest_report([best, Largest('local K=2', card, 0, None)], 0)
    assert 'best plan' in report
    assert 'none' in report


def test_a_figure_is_drawn(compared, tmp_path):
    measured = [Measured((1.0, 1.1), 60), Measured((1.2, 1.0), 100)]
    result = {
        'methods': summarised(compared, measured),
        'crop_size': [64, 96],
        'network': 'tiny',
        'batch_size': 2,
        'precision': 'float32',
        'device': 'CPU',
        'steps': 2,
    }
    picture = tmp_path / 'front.png'
    plot_benchmark(result, picture)
    assert picture.read_bytes().startswith(b'\x89PNG')
