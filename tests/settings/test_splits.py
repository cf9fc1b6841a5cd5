"""Where the chain is cut, and what is refused."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopro_seg.settings.splits import (
    check_splits,
    even_splits,
    evenest_ends,
    linear_weights,
    module_ranges,
)

NAMES = ('stem', 'layer1.0', 'layer1.1', 'layer2.0', 'layer2.1')


@given(st.integers(1, 40), st.data())
def test_even_splits_give_modules_that_differ_by_at_most_one_unit(num_units, data):
    names = [f'unit.{i}' for i in range(num_units)]
    num_modules = data.draw(st.integers(1, num_units))
    ranges = module_ranges(names, even_splits(names, num_modules))
    sizes = [len(r) for r in ranges]
    assert len(ranges) == num_modules
    assert max(sizes) - min(sizes) <= 1
    assert [i for r in ranges for i in r] == list(range(num_units))


@given(st.integers(1, 5), st.data())
def test_evenest_ends_are_those_of_brute_force(num_units, data):
    whole = st.integers(0, 9)
    costs = np.full((num_units + 1, num_units + 2), np.inf)
    for first, end in itertools.combinations(range(num_units + 2), 2):
        costs[first, end] = data.draw(whole)
    num_modules = data.draw(st.integers(1, num_units + 1))

    def key(ends):
        own = [costs[a, b] for a, b in itertools.pairwise([0, *ends, num_units + 1])]
        return max(own), sum(cost**2 for cost in own)

    cuts = itertools.combinations(range(1, num_units + 1), num_modules - 1)
    *ends, last = evenest_ends(costs, num_modules)
    assert last == num_units + 1
    assert key(ends) == min(map(key, cuts))


def test_the_last_unit_as_split_leaves_the_decode_head_alone():
    assert module_ranges(NAMES, ['layer2.1']) == (range(5), range(5, 5))


@pytest.mark.parametrize('num_modules', [0, 7, -1])
def test_impossible_number_of_modules_names_the_range(num_modules):
    with pytest.raises(
        ValueError, match=f'num_modules={num_modules} .* 5 units .*1 .*6 '
    ):
        even_splits(NAMES, num_modules)


@pytest.mark.parametrize(
    ('splits', 'error', 'text'),
    [
        (['layer1.2'], ValueError, "'layer1.2' is not a unit.*Nearest: layer1.1"),
        (['layr2.0'], ValueError, 'Nearest: layer2.0'),
        ([12], ValueError, 'split 12 is not a unit.*All units: stem, layer1.0'),
        (['layer2.0', 'layer1.0'], ValueError, 'out of order.*layer1.0.*layer2.0'),
        (['layer1.0', 'layer1.0'], ValueError, "names 'layer1.0' twice"),
        ('layer1.0', TypeError, r"must be a list: splits=\['layer1.0'\]"),
    ],
)
def test_wrong_splits_are_refused_with_a_way_out(splits, error, text):
    with pytest.raises(error, match=text):
        check_splits(NAMES, splits)


def test_out_of_order_splits_are_answered_with_the_right_order():
    with pytest.raises(ValueError, match=re.escape("splits=['layer1.0', 'layer2.0']")):
        check_splits(NAMES, ['layer2.0', 'layer1.0'])


@pytest.mark.parametrize(
    ('given_weights', 'num', 'expected'),
    [
        ((1.5, 0.5), 3, (1.5, 1.0, 0.5)),
        ((1.5, 0.5), 1, (1.5,)),
        ((1.5, 0.5), 2, (1.5, 0.5)),
        (2, 3, (2.0, 2.0, 2.0)),
        ((1, 2), 0, ()),
    ],
)
def test_weights_go_linearly_from_the_first_module_to_the_last_but_one(
    given_weights, num, expected
):
    assert linear_weights(given_weights, num) == expected


@pytest.mark.parametrize(
    'weights', [-1, (1, -0.5), (1, 2, 3), (float('nan'), 1), (float('inf'), 1)]
)
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match=re.escape(f'weights={weights!r} must be')):
        linear_weights(weights, 2)
