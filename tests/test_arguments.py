"""Which arguments a registered class takes, judged as Python passes them on."""

import pytest

from infopro_seg.arguments import accepted_settings, leaves_open, takes


class Base:
    def __init__(self, a=1, b=2):
        self.given = a, b


class Closed(Base):
    def __init__(self, a=1):
        super().__init__(a=a)


class Open(Base):
    def __init__(self, **rest):
        super().__init__(**rest)


class Sets(Base):
    def __init__(self, **rest):
        super().__init__(b=3, **rest)


class SetsInADict(Base):
    def __init__(self, **rest):
        rest['b'] = 3
        super().__init__(**rest)


class OpenToClosed(Closed):
    def __init__(self, **rest):
        super().__init__(**rest)


class Untouched(Closed):
    pass


def function(b=2):
    return b


def functions_kwargs(**rest):
    return rest


@pytest.mark.parametrize(
    ('cls', 'is_taken', 'is_open'),
    [
        (Base, True, True),
        (Closed, False, False),
        (Open, True, True),
        (Sets, True, False),
        (SetsInADict, True, False),
        (OpenToClosed, False, False),
        (Untouched, False, False),
        (object, False, False),
        (function, True, True),
        (functions_kwargs, False, False),
    ],
)
def test_a_base_counts_only_as_far_as_keywords_reach_it(cls, is_taken, is_open):
    assert takes(cls, 'b') is is_taken
    assert ('b' in accepted_settings(cls)) is is_taken
    assert leaves_open(cls, 'b') is is_open
    if is_open:
        cls(b=4)
    elif not is_taken and cls is not functions_kwargs:
        with pytest.raises(TypeError):
            cls(b=4)
