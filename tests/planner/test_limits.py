"""What is said to fit a card was checked by a step; a prediction alone may be wrong."""

import dataclasses

import pytest

from infopro_seg.benchmark.largest import largest_sizes
from infopro_seg.benchmark.methods import methods
from infopro_seg.planner import limits
from infopro_seg.planner.limits import (
    above_refused,
    largest_batch,
    largest_crop,
    last_down_from,
    last_that,
    smallest_crop_step,
    what_fits,
)
from infopro_seg.planner.make import Setting, make_plan
from infopro_seg.planner.profile.simulation import SimulationError
from tests.planner.networks import tiny, windowed

BATCH, CROP = 2, (64, 96)
SETTING = Setting(tiny(), BATCH, CROP)
#: A map of 64 rows is the smallest that its head takes.
WINDOWED = Setting(windowed(), BATCH, CROP)
CARD = 8 * 2**30
WHOLE = {'num_modules': 1, 'recompute': 'never', 'reserve': 0}


@pytest.fixture(scope='module', autouse=True)
def measured_once():
    """Every size is measured once for all tests of this file."""
    chains = {}
    honest = Setting.measured

    def measured(self):
        key = repr((self.model, self.batch_size, self.crop_size))
        if key not in chains:
            chains[key] = honest(self)
        return chains[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Setting, 'measured', measured)
        yield


@pytest.fixture(scope='module')
def whole_peak():
    """Of a step of end-to-end training."""
    return SETTING.tracked_peak((), ())


@pytest.fixture
def lie(monkeypatch, measured_once):
    """Let predictions be too low, by so many bytes an image of ``CROP``."""
    honest = Setting.measured

    def start(bytes_an_image):
        def measured(self):
            area = self.crop_size[0] * self.crop_size[1]
            images = self.batch_size * area / (CROP[0] * CROP[1])
            return lowered(honest(self), round(bytes_an_image * images))

        def lowered(chain, num_bytes):
            return dataclasses.replace(
                chain,
                start_bytes=chain.start_bytes - num_bytes,
                end_to_end=chain.end_to_end and lowered(chain.end_to_end, num_bytes),
            )

        monkeypatch.setattr(Setting, 'measured', measured)

    return start


@pytest.mark.exhaustive
@pytest.mark.parametrize('largest', [largest_batch, largest_crop])
def test_the_largest_size_shrinks_to_one_whose_step_fits(lie, whole_peak, largest):
    memory = 4 * whole_peak
    honest = largest(SETTING, memory, **WHOLE)
    lie(whole_peak // 10)
    found = largest(SETTING, memory, **WHOLE)
    assert found.tracked_peak_bytes <= memory
    assert (found.batch_size, found.crop_size) == (honest.batch_size, honest.crop_size)
    # One that fits was not the first that was tried.
    assert found.predicted_peak_bytes < 0.9 * memory


@pytest.mark.exhaustive
def test_the_largest_sizes_of_a_method_shrink_likewise(lie, whole_peak):
    cards = [4 * whole_peak]
    kinds = ['checkpointing', 'local']
    honest = largest_sizes(methods(SETTING, kinds, [2]), cards, 0)
    lie(whole_peak // 10)
    assert largest_sizes(methods(SETTING, kinds, [2]), cards, 0) == honest


def test_a_card_is_said_to_fit_only_what_was_checked(lie, whole_peak, monkeypatch):
    monkeypatch.setattr(limits, 'CARDS_GIB', (8,))
    reserve = CARD - whole_peak
    (fit,) = what_fits(SETTING, reserve)
    assert fit.end_to_end
    assert (fit.local.splits, fit.local.recompute) == ((), ())
    assert (fit.exact.splits, fit.exact.recompute) == ((), ())
    lie(whole_peak // 20)
    (fit,) = what_fits(SETTING, reserve - 1000)
    assert fit.end_to_end
    (fit,) = what_fits(SETTING, reserve + 1000)
    assert not fit.end_to_end
    # Something else was found, and that fits.
    for plan in (fit.exact, fit.local):
        assert plan.flops_overhead > 0
        assert plan.predicted_peak_bytes < whole_peak


def test_checkpointing_is_checked_too(lie, monkeypatch):
    monkeypatch.setattr(limits, 'CARDS_GIB', (8,))
    peak = SETTING.tracked_peak((), ('all',))
    lie(peak // 20)
    for more, is_fitting in ((1000, True), (-1000, False)):
        (fit,) = what_fits(SETTING, CARD - peak - more)
        assert fit.checkpointing == is_fitting


def test_a_card_below_the_reserve_fits_nothing(monkeypatch):
    monkeypatch.setattr(limits, 'CARDS_GIB', (8,))
    assert what_fits(SETTING, CARD) == [limits.Fit(8, False, False)]


@pytest.mark.exhaustive
def test_one_image_is_checked_although_batch_norm_refuses_it():
    one, two, three = (
        dataclasses.replace(SETTING, batch_size=n).tracked_peak((), ())
        for n in (1, 2, 3)
    )
    assert one == 2 * two - three
    plan = make_plan(dataclasses.replace(SETTING, batch_size=1), num_modules=1)
    assert plan.tracked_peak_bytes == one
    assert plan.predicted_peak_bytes == pytest.approx(one, rel=0.01)


@pytest.mark.exhaustive
@pytest.mark.parametrize(('setting', 'step'), [(SETTING, 1), (WINDOWED, 2)])
def test_the_smallest_crop_that_a_network_takes_is_found(setting, step):
    assert smallest_crop_step(setting) == step


@pytest.mark.exhaustive
def test_the_search_for_a_crop_stays_above_what_a_network_refuses(lie):
    peak = WINDOWED.tracked_peak((), ())
    # A prediction that is far too low: on the way down, the search meets 32 rows.
    lie(round(0.39 * peak))
    assert largest_crop(WINDOWED, peak + 1000, **WHOLE).crop_size == CROP


@pytest.mark.exhaustive
def test_nothing_fits_if_the_smallest_crop_of_a_network_does_not():
    memory = WINDOWED.tracked_peak((), ()) - 1000
    assert largest_crop(WINDOWED, memory, **WHOLE) is None
    (largest,) = largest_sizes(methods(WINDOWED, ['end_to_end'], []), [memory], 0)
    assert largest.crop_size is None


def test_crops_are_searched_again_above_the_refused_ones(monkeypatch):
    monkeypatch.setattr(limits, 'smallest_crop_step', lambda setting: 3)

    def search(least):
        if least < 3:
            raise SimulationError('too small')
        return last_down_from(9, lambda size: size <= 4, least)

    assert above_refused(SETTING, search) == 4
    assert last_down_from(9, lambda size: size <= 2, 3) == 2


def test_a_network_that_no_size_helps_is_still_refused(monkeypatch):
    def search(least):
        raise SimulationError('an operator')

    monkeypatch.setattr(limits, 'smallest_crop_step', lambda setting: 1)
    with pytest.raises(SimulationError, match='an operator'):
        above_refused(SETTING, search)


@pytest.mark.parametrize('last', [0, 1, 2, 6, 7, 11])
def test_a_search_ends_at_the_last_that_fits(last):
    tried = []

    def fits(size):
        assert size >= 1
        tried.append(size)
        return size <= last

    assert last_that(fits, 10) == min(last, 10)
    tried.clear()
    assert last_down_from(10, fits) == min(last, 10)
    # A good prediction costs one step.
    assert tried[0] == 10
    assert len(tried) <= 8
    assert len(tried) == 1 or last < 10


def test_nothing_is_tried_below_one():
    assert last_down_from(0, lambda size: pytest.fail()) == 0
