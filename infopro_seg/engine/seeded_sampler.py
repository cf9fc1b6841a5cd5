"""A sampler that gives every sample its own random numbers."""

from collections.abc import Iterator

from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Dataset

from ..scopes import register
from .numbered_batches import SeededIndex, seed_items


@register(DATA_SAMPLERS)
class SeededSampler(InfiniteSampler):
    """An InfiniteSampler whose augmentations do not depend on which process loads.

    The random augmentations of the n-th drawn sample follow from the seed and n alone.
    So they are the same for any number of workers or processes, and in a resumed run.
    `SafeCheckpointHook` does the same for every sampler.

    Args:
        dataset: The outermost data set; changed to load each sample from its own seeds.
        shuffle: As in InfiniteSampler.
        seed: As in InfiniteSampler: None for one that all processes agree on.
    """

    def __init__(
        self, dataset: Dataset, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        self._seeds_items = seed_items(dataset)
        self._num_drawn = 0

    def __iter__(self) -> Iterator:
        """Indices, with the seeds of each draw where the data set can use them."""
        for index in super().__iter__():
            draw = self.rank + self._num_drawn * self.world_size
            self._num_drawn += 1
            # The 0 is the epoch: the order has no end.
            seeds = (self.seed, draw, 0)
            yield SeededIndex(index, seeds) if self._seeds_items else index

    def skip(self, num_samples: int) -> None:
        """Let the next draw be the one after ``num_samples`` of this process."""
        super().skip(num_samples)
        self._num_drawn = num_samples
