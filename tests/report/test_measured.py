"""What studies measured, as the planner shows it."""

import json
from pathlib import Path

import pytest

from infopro_seg.cli import price_list as tool
from infopro_seg.planner.limits import has_default_heads
from infopro_seg.planner.make import Setting
from infopro_seg.report.measured import (
    Measured,
    price,
    price_list,
    read_price_list,
    sources,
)
from infopro_seg.report.plan_text import dial_report
from infopro_seg.settings.plan import Plan

RESULTS = Path(__file__).parents[2] / 'results'
PRICE = Measured('Net on data', 300, 4, None, 6, -0.42, -1.25, 0.41)


def study(*methods, scores_on='val', **changes):
    facts = {'about': 'Net on data', 'iterations': 300, 'scores on': scores_on}
    facts['baseline'] = 'base'
    base = {**method({'splits': []}), 'name': 'base', 'difference': None, **changes}
    return {'facts': facts, 'methods': [base, *methods]}


def method(local, seeds=(0, 1, 2), **difference):
    found = {'seeds': list(seeds), 'mean': -0.424, 'low': -1.25, 'high': 0.406}
    return {
        'name': repr(local),
        'local': local,
        'differs': {},
        'difference': {**found, **difference},
    }


def test_rows_that_train_as_plans_do_are_taken():
    found = price_list(
        [
            study(
                method({'num_modules': 4}),
                method({'num_modules': 8, 'end_to_end_every': 4}),
                # Too few seeds, other heads, no walls, no difference to be expected.
                method({'num_modules': 2}, seeds=(0, 1)),
                method({'num_modules': 2, 'weights': {'reconstruction': [0, 0]}}),
                method({'num_modules': 2, 'deep_supervision': True}),
                method({'num_modules': 4, 'end_to_end_every': 1}),
                # Trained in another way than the baseline.
                {**method({'num_modules': 5}), 'differs': {'total_batch_size': 2}},
                {**method({'num_modules': 5}), 'differs': {'iterations': 1200}},
                {**method({'num_modules': 5}), 'differs': {'config': 'other.py'}},
                # Only the baseline sets it.
                {**method({'num_modules': 5}), 'differs': {'model.aux': None}},
            ),
            study(method({'num_modules': 6}), scores_on='the last fifth'),
            # Compared with something else than end-to-end training.
            study(method({'num_modules': 7}), local={'num_modules': 2}),
            study(method({'num_modules': 7}), name='other'),
        ]
    )
    assert [entry[2:] for entry in found] == [
        (4, None, 3, -0.42, -1.25, 0.41),
        (8, 4, 3, -0.42, -1.25, 0.41),
    ]


def test_results_of_an_earlier_version_are_told():
    old = method({'num_modules': 4})
    del old['differs']
    with pytest.raises(
        ValueError, match=r"study 'Net on data' are of an .*--report\.$"
    ):
        price_list([study(old)])


def test_a_price_is_that_of_as_many_modules():
    assert price([PRICE], 4, None) == '-0.4 mIoU (-1.2 to +0.4)'
    assert price([PRICE], 4, 2) == price([PRICE], 3, None) == 'not measured'
    assert sources([PRICE, PRICE]) == '  Net on data, 300 iterations'


def test_prices_of_two_studies_are_told_apart():
    prices = [PRICE, PRICE._replace(about='Other net', mean=1.0)]
    one, other = price(prices, 4, None).split('; ')
    assert one == '-0.4 mIoU (-1.2 to +0.4) [1]'
    assert other == '+1.0 mIoU (-1.2 to +0.4) [2]'
    assert sources(prices).splitlines() == [
        '  [1] Net on data, 300 iterations',
        '  [2] Other net, 300 iterations',
    ]
    assert sources([]) == ''


@pytest.mark.parametrize('prices', [(), [PRICE]])
def test_the_planner_shows_it_beside_the_plan(prices):
    plan = Plan(('a', 'b', 'c'), (), 2**30, flops_ratio=1.0)
    exact = Plan(('a', 'b', 'c'), (), 2**30, flops_ratio=1.1, end_to_end_every=1)
    text = dial_report({'local': plan, 'exact': exact}, plan, prices)
    local_line, exact_line = text.splitlines()[1:3]
    assert ('not measured' in local_line) == (not prices)
    assert ('-0.4 mIoU (-1.2 to +0.4)' in local_line) == bool(prices)
    assert 'that of end-to-end' in exact_line
    assert ('Net on data, 300 iterations' in text) == bool(prices)


def test_the_price_list_is_that_of_the_results(tmp_path):
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob('*.json'))]
    studies = [content for content in results if 'about' in content.get('facts', {})]
    assert read_price_list() == price_list(studies)


def test_the_tool_writes_what_is_read(tmp_path, capsys):
    path, out = tmp_path / 'study.json', tmp_path / 'prices.json'
    path.write_text(json.dumps(study(method({'num_modules': 4}))))
    tool.main([str(path), '--out', str(out)])
    assert read_price_list(out) == [PRICE._replace(num_seeds=3)]
    assert 'K=4: -0.4 mIoU' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('local', 'expected'),
    [
        ({}, True),
        ({'num_modules': 3, 'head': 'lean', 'end_to_end_every': 4}, True),
        ({'head': 'paper'}, False),
        ({'head': {'look_ahead': 2}}, False),
        ({'weights': {'reconstruction': 0}}, False),
    ],
)
def test_prices_are_those_of_the_default_heads(local, expected):
    assert has_default_heads(Setting({'local': local}, 1, (8, 8))) is expected
