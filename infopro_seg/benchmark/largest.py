"""What a card could train with each method: predictions, nothing is run."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..planner.costs import Chain
from ..planner.limits import (
    MAX_BATCH,
    MAX_CROP_STEPS,
    chain_by_batch,
    chain_by_rows,
    crop_of,
    largest_batch,
    largest_crop,
    last_that,
)
from ..planner.make import Setting
from ..planner.peaks import predicted_peak
from .methods import Method


class Largest(NamedTuple):
    """The largest sizes that fit a card.

    Args:
        method: Name of the method, or ``best plan``.
        card_bytes: Memory of the card, the reserve included.
        batch_size: Images a step at the setting's crop; 0 if not even one fits.
        crop_size: (height, width) at the setting's batch; None if nothing fits.
    """

    method: str
    card_bytes: int
    batch_size: int
    crop_size: tuple[int, int] | None


def largest_sizes(
    methods: Sequence[Method], cards: Sequence[int], reserve: int
) -> list[Largest]:
    """The largest batch and crop of every method, for every card.

    Args:
        methods: Each keeps its cuts and what it recomputes.
        cards: Bytes of memory.
        reserve: Bytes of a card that the model may not use.
    """
    return [
        Largest(method.name, card, batch_size, crop_size)
        for method in methods
        for card, batch_size, crop_size in _sizes_of(method, cards, reserve)
    ]


def best_plans(setting: Setting, cards: Sequence[int], reserve: int) -> list[Largest]:
    """The same if the planner may choose K, cuts and recompute for every size."""
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

    def largest(chain_of: Callable[[int], Chain], budget: int, most: int) -> int:
        return last_that(
            lambda size: predicted_peak(chain_of(size), method.partition) <= budget,
            most,
        )

    sizes = []
    for card in cards:
        batch_size = largest(by_batch, card - reserve, MAX_BATCH)
        step = largest(by_rows, card - reserve, MAX_CROP_STEPS)
        sizes.append((card, batch_size, crop_of(setting, step) if step else None))
    return sizes
