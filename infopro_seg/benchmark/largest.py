"""The largest batch and crop that each method can train on a GPU.

Predicted, and checked by a step on fake tensors: no GPU is needed.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..planner.limits import (
    MAX_BATCH,
    MAX_CROP_STEPS,
    above_refused,
    chain_by_batch,
    chain_by_rows,
    crop_of,
    largest_batch,
    largest_crop,
    last_down_from,
    last_that,
)
from ..planner.make import Setting
from ..planner.search.costs import Chain
from ..planner.search.totals import predicted_peak
from .method import Method


class Largest(NamedTuple):
    """The largest sizes that fit a GPU.

    Args:
        method: Name of the method, or ``best plan``.
        card_bytes: Memory of the GPU, including the reserve.
        batch_size: Images per step at the setting's crop; 0 if not even one fits.
        crop_size: (height, width) at the setting's batch; None if nothing fits.
    """

    method: str
    card_bytes: int
    batch_size: int
    crop_size: tuple[int, ...] | None


def largest_sizes(
    methods: Sequence[Method], cards: Sequence[int], reserve: int
) -> list[Largest]:
    """The largest batch and crop of every method, for every GPU.

    Args:
        methods: Each keeps its cuts and what it recomputes. Methods that the planner
            cannot predict are left out.
        cards: Memory of each GPU in bytes.
        reserve: Bytes of each GPU that the model may not use.

    Returns:
        One entry per method and GPU.
    """
    return [
        Largest(method.name, card, batch_size, crop_size)
        for method in methods
        if method.counted is None and method.change is None
        for card, batch_size, crop_size in _sizes_of(method, cards, reserve)
    ]


def best_plans(setting: Setting, cards: Sequence[int], reserve: int) -> list[Largest]:
    """Like `largest_sizes`, if the planner chooses K, cuts and recompute each time."""
    found = []
    for card in cards:
        batch = largest_batch(setting, card, reserve=reserve)
        crop = largest_crop(setting, card, reserve=reserve)
        found.append(
            Largest(
                'best plan',
                card,
                0 if batch is None else batch.batch_size,
                None if crop is None else crop.crop_size,
            )
        )
    return found


def _sizes_of(
    method: Method, cards: Sequence[int], reserve: int
) -> list[tuple[int, int, tuple[int, int] | None]]:
    setting = method.setting
    by_batch, by_rows = chain_by_batch(setting), chain_by_rows(setting)

    def of_batch(batch_size: int) -> Setting:
        return dataclasses.replace(setting, batch_size=batch_size)

    def of_rows(step: int) -> Setting:
        return dataclasses.replace(setting, crop_size=crop_of(setting, step))

    sizes = []
    for card in cards:
        budget = card - reserve
        batch_size = _largest(method, budget, MAX_BATCH, by_batch, of_batch)
        find = functools.partial(
            _largest, method, budget, MAX_CROP_STEPS, by_rows, of_rows
        )
        step = above_refused(setting, find)
        sizes.append((card, batch_size, crop_of(setting, step) if step else None))
    return sizes


def _largest(
    method: Method,
    budget: int,
    most: int,
    chain_of: Callable[[int], Chain],
    setting_of: Callable[[int], Setting],
    least: int = 1,
) -> int:
    """The largest size, up to the predicted one, whose tracked step fits; 0 if none."""
    predicted = last_that(
        lambda size: predicted_peak(chain_of(size), method.partition) <= budget, most
    )
    largest = last_down_from(
        predicted,
        lambda size: setting_of(size).tracked_peak_of(method.model) <= budget,
        least,
    )
    return largest if largest >= least else 0
