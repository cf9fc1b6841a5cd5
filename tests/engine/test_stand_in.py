"""A stand-in cannot be told from what it stands for, but by its call."""

import copy
import pickle

import pytest

from infopro_seg.engine.stand_in import StandIn, stood_for


class Original:
    """With an attribute, one that is computed, and a private one."""

    def __init__(self, size=1):
        self.size = size
        self._note = 'theirs'

    @property
    def double(self):
        return 2 * self.size

    def __repr__(self):
        return f'Original({self.size})'


class Counting(StandIn):
    """Counts its calls."""

    def __init__(self, original):
        super().__init__(original, _num_calls=0)

    def __call__(self):
        self._num_calls += 1
        return self._num_calls


def test_attributes_are_read_written_and_deleted_on_the_original():
    original = Original()
    stand_in = Counting(original)
    assert (stand_in.size, stand_in.double, stand_in._note) == (1, 2, 'theirs')
    stand_in.size = 5
    stand_in.new = 'added'
    assert (original.size, stand_in.double, original.new) == (5, 10, 'added')
    del stand_in.new
    assert not hasattr(original, 'new')
    assert not hasattr(stand_in, 'new')
    with pytest.raises(AttributeError, match='double'):
        stand_in.double = 3


def test_own_attributes_stay_its_own():
    original = Original()
    stand_in = Counting(original)
    assert [stand_in(), stand_in()] == [1, 2]
    assert not hasattr(original, '_num_calls')


def test_it_is_of_the_class_and_looks_like_it():
    stand_in = Counting(Original())
    assert isinstance(stand_in, Original)
    assert isinstance(stand_in, Counting)
    assert stand_in.__class__ is Original
    assert type(stand_in) is Counting
    assert repr(stand_in) == 'Original(1)'


@pytest.mark.parametrize(
    'copied', [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_stand_in_for_copies(copied):
    original = Original(4)
    stand_in = Counting(original)
    stand_in()
    original.back = stand_in  # a circle
    other = copied(stand_in)
    assert type(other) is Counting
    assert (other(), other.size) == (2, 4)
    assert stand_in() == 2
    if copied is not copy.copy:
        assert stood_for(other) is not original
        assert other.back is other
