import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopro_seg.benchmark.front import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8)


def beats(a, b):
    return a != b and a[0] <= b[0] and a[1] <= b[1]


@given(POINTS)
def test_the_front_is_what_no_point_beats(points):
    expected = {p for p in points if not any(beats(q, p) for q in points)}
    assert pareto_front(points) == sorted(expected)


@pytest.mark.parametrize('points', [[], [(1, 1)]])
def test_few_points(points):
    assert pareto_front(points) == points
