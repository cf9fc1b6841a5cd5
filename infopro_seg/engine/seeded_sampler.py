"""A sampler that gives every drawn sample its own random numbers."""

import itertools
from collections.abc import Iterator

from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATA_SAMPLERS


class SampleIndex(int):
    """An index into a data set that knows how many draws came before it.

    The wrappers that compute with indices (concatenated, repeated data sets) keep it.
    """

    def __new__(cls, index: int, seeds: tuple[int, int]) -> 'SampleIndex':
        """Make an index.

        Args:
            index: Position in the data set.
            seeds: (seed of the sampler, number of draws before over all processes).
        """
        self = super().__new__(cls, index)
        self.seeds = seeds
        return self

    def __sub__(self, other: int) -> 'SampleIndex':
        return SampleIndex(int(self) - other, self.seeds)

    def __mod__(self, other: int) -> 'SampleIndex':
        return SampleIndex(int(self) % other, self.seeds)

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.seeds)


@DATA_SAMPLERS.register_module()
class SeededSampler(InfiniteSampler):
    """The order of InfiniteSampler; augmentations do not depend on who loads.

    With `DataGuardHook` the random augmentations of the n-th drawn sample follow from
    the seed and n alone: they are the same for any number of workers or processes, and
    in a resumed run.

    Args:
        args: Of InfiniteSampler, as all others.
        kwargs: Of InfiniteSampler.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._num_drawn = 0

    def __iter__(self) -> Iterator[SampleIndex]:
        for index in self.indices:
            draw = self.rank + self._num_drawn * self.world_size
            self._num_drawn += 1
            yield SampleIndex(index, (self.seed, draw))

    def skip(self, num_samples: int) -> None:
        """Go to where this process is after drawing so many samples."""
        self.indices = itertools.islice(self._indices_of_rank(), num_samples, None)
        self._num_drawn = num_samples
