"""Statistics of a report against their definitions."""

import dataclasses
import math
import re

import numpy as np
import pytest

from infopro_seg.report.study_plots import plot_frontier
from infopro_seg.report.study_text import score_table
from infopro_seg.study.matrix import Row, Study
from infopro_seg.study.summary import paired_difference, summarised

# Two-sided 95% quantiles of Student's t, from printed tables.
QUANTILES = {2: 4.303, 5: 2.571}


def study_of(*names):
    rows = tuple(Row(name, 'any.py', {}, {}, (0, 1, 2), 2, 1) for name in names)
    return Study('any', 2, 1, rows, names[0], 'val', False, None)


def record(name, seed, scores, classes, seconds=1.0):
    return {
        'name': name,
        'seed': seed,
        'miou': scores[-1],
        'iterations': list(range(1, len(scores) + 1)),
        'miou_over_iterations': scores,
        'class_iou': classes,
        'seconds_per_iteration': seconds,
        'predicted_peak_bytes': 5,
        'flops_per_iteration': 7,
    }


@pytest.mark.parametrize('num_seeds', [3, 6])
def test_the_interval_of_a_paired_difference(num_seeds):
    random = np.random.default_rng(0)
    base = {seed: float(random.normal(40, 5)) for seed in range(num_seeds)}
    other = {seed: base[seed] + float(random.normal(1, 0.5)) for seed in base}
    found = paired_difference({**other, 99: 0.0}, base)
    values = [other[seed] - base[seed] for seed in base]
    mean = sum(values) / num_seeds
    variance = sum((value - mean) ** 2 for value in values) / (num_seeds - 1)
    half = QUANTILES[num_seeds - 1] * math.sqrt(variance / num_seeds)
    assert found['seeds'] == list(base)
    assert found['mean'] == pytest.approx(mean)
    # The tables have four digits.
    assert found['low'] == pytest.approx(mean - half, abs=1e-3 * half + 1e-9)
    assert found['high'] == pytest.approx(mean + half, abs=1e-3 * half + 1e-9)


def test_few_seeds_have_no_interval_and_none_no_difference():
    found = paired_difference({1: 3.0, 2: 4.0}, {2: 2.5})
    assert found == {'seeds': [2], 'mean': 1.5, 'low': None, 'high': None}
    found = paired_difference({1: 3.0, 2: 4.0}, {1: 1.5, 2: 2.5})
    assert found == {'seeds': [1, 2], 'mean': 1.5, 'low': None, 'high': None}
    assert paired_difference({1: 3.0}, {2: 2.5}) is None


def test_methods_are_summarised_over_their_seeds():
    records = [
        record('b', 1, [10.0, 30.0], {'sky': 50.0, 'car': None}, 2.0),
        record('a', 0, [10.0, 20.0], {'sky': 40.0, 'car': 1.0}),
        record('a', 1, [14.0, 26.0], {'sky': 60.0, 'car': None}),
    ]
    first, second = summarised(study_of('a', 'b', 'c'), records)
    assert (first['name'], second['name']) == ('a', 'b')
    assert first['seeds'] == [0, 1] and first['difference'] is None
    assert first['miou'] == {'mean': 23.0, 'deviation': pytest.approx(math.sqrt(18))}
    assert first['curve']['iterations'] == [1, 2]
    assert first['curve']['mean'] == [12.0, 23.0]
    assert first['class_iou']['car'] == {'mean': 1.0, 'deviation': None}
    assert second['class_iou'] == {'sky': {'mean': 50.0, 'deviation': None}}
    assert second['difference']['mean'] == 4.0
    assert second['seconds_per_iteration'] == 2.0
    assert second['miou']['deviation'] is None
    assert first['training_flops'] == 7 * 2


def test_a_row_has_its_own_length_and_options():
    study = study_of('a', 'b', 'c')
    longer = dataclasses.replace(
        study.rows[1], iterations=8, options={'lr': 0.1, 'total_batch_size': 2}
    )
    base = dataclasses.replace(study.rows[0], options={'lr': 0.1, 'only': 'here'})
    study = dataclasses.replace(study, rows=(base, longer))
    records = [record(name, seed, [1.0], {}) for name in 'ab' for seed in (0, 1)]
    # A run of an earlier version, which did not count.
    del records[2]['flops_per_iteration']
    first, second = summarised(study, records)
    assert (first['iterations'], first['differs']) == (2, {})
    differs = {'iterations': 8, 'total_batch_size': 2, 'only': None}
    assert (second['iterations'], second['differs']) == (8, differs)
    assert second['training_flops'] == 7 * 8
    table = re.sub(' +', ' ', score_table([first, second], 'a'))
    assert '| method | iterations | seeds |' in table and '| b | 8 | 2 |' in table
    assert '| 400% |' in table
    del records[3]['flops_per_iteration']
    assert summarised(study, records)[1]['training_flops'] is None


def test_a_row_with_a_config_of_its_own_differs_by_it():
    study = study_of('a', 'b', 'c')
    other = dataclasses.replace(study.rows[1], config='/home/me/other.py')
    same = dataclasses.replace(study.rows[2], options={'off': None})
    study = dataclasses.replace(study, rows=(study.rows[0], other, same))
    records = [record(name, 0, [1.0], {}) for name in 'abc']
    _, second, third = summarised(study, records)
    assert second['differs'] == {'config': 'other.py'}
    # It sets something, if to None.
    assert third['differs'] == {'off': None}


@pytest.mark.parametrize('uncounted', [('a', 'b'), ('a',)])
def test_figures_of_runs_whose_step_was_not_counted(tmp_path, uncounted):
    records = [record(name, seed, [1.0, 2.0], {}) for name in 'ab' for seed in (0, 1)]
    for entry in records:
        if entry['name'] in uncounted:
            entry.update(predicted_peak_bytes=None, flops_per_iteration=None)
    entries = summarised(study_of('a', 'b'), records)
    plot_frontier(entries, tmp_path / 'frontier.png', 'any')
    assert (tmp_path / 'frontier.png').read_bytes().startswith(b'\x89PNG')
