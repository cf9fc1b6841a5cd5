"""The score table of a study."""

import re

import pytest

from infopro_seg.report.study_text import score_table


@pytest.mark.parametrize(
    ('difference', 'told'),
    [
        (None, '| | |'),
        ({'mean': 1.25, 'low': None, 'high': None}, '| +1.25 | |'),
        ({'mean': 1.25, 'low': -0.5, 'high': 3.0}, '| +1.25 | -0.50 to +3.00 |'),
    ],
)
def test_a_difference_is_told_with_its_interval_if_it_has_one(difference, told):
    entry = {
        'name': 'any',
        'iterations': 300,
        'seeds': [0, 1],
        'miou': {'mean': 40.0, 'deviation': 0.5},
        'difference': difference,
        'training_flops': 15,
        'predicted_peak_bytes': 3 * 2**20,
    }
    table = re.sub(
        ' +',
        ' ',
        score_table([entry, {**entry, 'name': 'base', 'training_flops': 10}], 'base'),
    )
    assert f'| any | 2 | 40.00 | 0.50 {told} 150% | 3 |' in table
