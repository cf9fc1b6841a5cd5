"""Rows of a study against each other, on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from infopro_seg.cli.compare_rows import main

DIFFERENCES = np.array([1.0, 2.0, 0.5, 1.5, 3.0, -1.0])
# Student's t with five degrees of freedom, two-sided, from printed tables: 95%, and
# 99%, which is 95% for five comparisons.
QUANTILES = {1: 2.571, 5: 4.032}


@pytest.fixture
def folder(tmp_path):
    def write(name, seed, score):
        row = {'name': name, 'seed': seed, 'miou': score, 'settings': {'lr': 0.1}}
        (tmp_path / f'{name}_{seed}.json').write_text(json.dumps(row))

    for seed, difference in enumerate(DIFFERENCES):
        write('base', seed, 40.0 + seed)
        write('other', seed, 40.0 + seed + difference)
    write('other', 6, 90.0)  # without a partner
    write('short', 0, 1.0)
    return str(tmp_path)


@pytest.mark.parametrize('number', QUANTILES)
def test_the_interval_is_that_of_paired_differences(folder, capsys, number):
    main([folder, '--pair', 'other', 'base', '--comparisons', str(number)])
    line = capsys.readouterr().out.splitlines()[1].split()
    half = QUANTILES[number] * DIFFERENCES.std(ddof=1) / np.sqrt(6)
    mean = DIFFERENCES.mean()
    assert line[:4] == ['other', 'less', 'base', '6']
    assert [float(x) for x in line[4:]] == pytest.approx(
        [mean, mean - half, mean + half], abs=0.006
    )


@pytest.mark.parametrize(
    ('pair', 'message'),
    [
        (('other', 'bose'), "has no row 'bose'; it has: base, other, short."),
        (
            ('short', 'base'),
            "'short' and 'base' have fewer than three seeds in common.",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(folder, pair, message):
    with pytest.raises(ValueError) as error:
        main([folder, '--pair', *pair])
    assert message in str(error.value)


def test_no_comparison_is_refused(folder, capsys):
    with pytest.raises(SystemExit):
        main([folder, '--pair', 'other', 'base', '--comparisons', '0'])
    assert '--comparisons 0 must be 1 or more' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'change', 'told'),
    [
        # Moved away in the same folder.
        ('base_0_old', {'miou': 3.0}, "both of row 'base', seed 0: move one of them"),
        ('base_7', {'seed': 7, 'settings': {'lr': 0.2}}, 'lr=0.1 with seed 0 and 0.2'),
        (
            'base_7',
            {'seed': 7, 'settings': {'lr': 0.1, 'aux': None}},
            'aux=its default',
        ),
        ('base_7', {'seed': 7, 'settings': {}}, 'lr=0.1 with seed 0 and its default'),
    ],
)
def test_rows_that_do_not_belong_together_are_told(folder, name, change, told):
    row = json.loads(Path(folder, 'base_0.json').read_text())
    Path(folder, f'{name}.json').write_text(json.dumps({**row, **change}))
    with pytest.raises(ValueError) as error:
        main([folder, '--pair', 'other', 'base'])
    assert told in str(error.value) and folder in str(error.value)


def test_a_file_that_is_no_row_is_named(folder):
    Path(folder, 'toy.json').write_text('{"name": "base"}')
    with pytest.raises(ValueError, match=r'toy\.json is no row of a study'):
        main([folder, '--pair', 'other', 'base'])
