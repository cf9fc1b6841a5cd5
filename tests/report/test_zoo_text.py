"""Surveys of mmseg's configs as Markdown."""

from infopro_seg.report.zoo_text import memory_report, support_parts
from infopro_seg.zoo.classify import Verdict
from infopro_seg.zoo.memory_table import Cell, Row


def test_a_table_spans_the_units_of_a_family():
    verdicts = [Verdict('a.py', 'Net', 9), Verdict('b.py', 'Net', 17)]
    parts = support_parts(verdicts, {})
    assert '| Net | 2 | 9 to 17 | 0 |  |' in parts['supported']
    assert '.py' not in parts['refused']


def test_refusals_are_counted_by_reason_and_listed():
    reasons = ('no units', 'needs timm', 'no units')
    verdicts = [Verdict(f'{i}.py', 'Net', 0, r) for i, r in enumerate(reasons)]
    parts = support_parts(verdicts, {'torch': '2.6'})
    assert parts['supported'].startswith('0 of the 3 configs of torch 2.6. ')
    assert parts['supported'].splitlines()[-3:] == [
        '| backbone | supported | units | refused | reason |',
        '|---|---|---|---|---|',
        '| Net | 0 |  | 3 | no units (2); needs timm (1) |',
    ]
    assert parts['refused'].splitlines()[2:] == [
        '| 0.py | no units |',
        '| 1.py | needs timm |',
        '| 2.py | no units |',
    ]


def test_a_table_says_where_fewer_modules_are_all_there_are():
    cells = (Cell(1, 2**30, 0.0), Cell(2, 2**29, 0.0123))
    row = Row(
        'mmseg::a/b.py',
        4,
        (64, 96),
        'float16',
        2**31,
        checkpointing=Cell(1, 2**30, 0.3),
        exact=Cell(5, 2**29, 0.12),
        cells=cells,
        prediction_error=0.004,
    )
    line = memory_report([row], [1, 2, 8]).splitlines()[2]
    assert line == (
        '| b | 4 of 64x96, float16 | 2.00 | 1.00 (50%, +30.0%) | 0.50 (25%, +12.0%) '
        '| 1.00 (50%) | 0.50 (25%, +1.2%) | 0.50 (25%, +1.2%, K=2) | +0.4% |'
    )


def test_models_without_numbers_are_listed_below_the_table():
    text = memory_report([Row('mmseg::a/b.py', reason='no units')], [2])
    assert text.splitlines() == [
        '| config | images | end-to-end GiB | checkpointing | exact | K=2 | error |',
        '|---|---|---|---|---|---|---|',
        '',
        'Without numbers:',
        '',
        '- b: no units',
    ]
