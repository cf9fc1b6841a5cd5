"""Numbers training samples in the order of their draw, and seeds them by it.

The batch sampler is wrapped, not the data set: the number of the draw is then known
before wrappers do anything with an index (repeat, look up in a table, mix images).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from .data_share import DataShare
from .random_state import random_numbers_from
from .stand_in import StandIn, stood_for


class Batches(Protocol):
    """A batch sampler: yields the indices of the samples of each batch."""

    def __iter__(self) -> Iterator[list[Any]]: ...

    def __len__(self) -> int: ...


class NumberedIndex(NamedTuple):
    """What a sampler returned, and the seeds of this draw."""

    index: Any
    seeds: tuple[int, ...]


class SeededIndex(int):
    """An index with the seeds of its draw; an int for batch samplers that look it up.

    Args:
        index: What the sampler returned.
        seeds: As in `NumberedIndex`.
    """

    seeds: tuple[int, ...]

    def __new__(cls, index: int, seeds: tuple[int, ...]) -> 'SeededIndex':
        """Make the number."""
        new = super().__new__(cls, index)
        new.seeds = seeds
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return SeededIndex, (int(self), self.seeds)


class NumberedBatches(StandIn):
    """The batches of a batch sampler in the same order, with seeds.

    Args:
        batches: A batch sampler.
        seed: Used if the sampler has no ``seed``.
        share: Which part of all draws these are.
    """

    _seed: int
    _share: DataShare
    _epoch: int
    _begun: tuple[Iterator, int] | None

    def __init__(self, batches: Batches, seed: int, share: DataShare) -> None:
        super().__init__(batches, _seed=seed, _share=share, _epoch=0, _begun=None)

    def __len__(self) -> int:
        return len(stood_for(self))

    def __iter__(self) -> Iterator[list[NumberedIndex | SeededIndex]]:
        batches, num_samples = self._begun or (iter(stood_for(self)), 0)
        self._begun = None
        epoch, self._epoch = self._epoch, self._epoch + 1
        seed = getattr(sampler_of(self), 'seed', None)
        seed = self._seed if seed is None else seed
        for batch in batches:
            first = self._share.index + num_samples * self._share.count
            yield [
                # SeedSequence ignores zeros at the end: epoch 0 has the numbers of
                # samplers without epochs.
                index
                if isinstance(index, SeededIndex)  # by the sampler itself
                else NumberedIndex(index, (seed, first + i * self._share.count, epoch))
                for i, index in enumerate(batch)
            ]
            num_samples += len(batch)

    def go_to(self, epoch: int, num_batches: int) -> int:
        """Let the next pass begin inside an epoch, without loading data.

        Args:
            epoch: Number of earlier passes.
            num_batches: Number of batches to skip.

        Returns:
            How many of these batches are beyond the end of the epoch.
        """
        self._epoch = epoch
        batches, num_samples = iter(stood_for(self)), 0
        self._begun = batches, 0
        for done in range(num_batches):
            batch = next(batches, None)
            if batch is None:
                return num_batches - done
            num_samples += len(batch)
            self._begun = batches, num_samples
        return 0


class SeededItems:
    """Loads samples, each with its own random numbers.

    The loader calls it as ``__getitems__`` of the data set, in any loading process.

    Args:
        dataset: The outermost data set.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._own = getattr(dataset, '__getitems__', None)

    def __call__(self, indices: list) -> list:
        """Load the samples of a batch."""
        return [self._load(index) for index in indices]

    def _load(self, index: Any) -> Any:
        if isinstance(index, SeededIndex):
            index = NumberedIndex(int(index), index.seeds)
        if not isinstance(index, NumberedIndex):
            return self._get(index)
        with random_numbers_from(index.seeds):
            return self._get(index.index)

    def _get(self, index: Any) -> Any:
        return self._own([index])[0] if self._own else self._dataset[index]


def seed_items(dataset: Dataset) -> bool:
    """Let a data set load each sample from the seeds that its index brings.

    Args:
        dataset: The outermost one; changed in place, once.

    Returns:
        Whether it can: not if it is iterable, or takes no attributes.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, '__dict__'):
        return False
    if not isinstance(getattr(dataset, '__getitems__', None), SeededItems):
        vars(dataset)['__getitems__'] = SeededItems(dataset)
    return True


def number_batches(
    loader: DataLoader, seed: int, share: DataShare
) -> NumberedBatches | None:
    """Give every sample of a loader its own random numbers.

    Python's, numpy's and torch's CPU generators are seeded for each sample and continue
    afterwards as if nothing had been loaded. The numbers follow from the sampler's
    seed, the epoch and the number of earlier draws over all processes. So they are the
    same for any number of workers and processes, and in a resumed run.

    Args:
        loader: Changed in place; a second call changes nothing.
        seed: Used if the sampler has no ``seed``.
        share: Which part of all draws this process makes.

    Returns:
        The batches, or None if the loader has no batch sampler (``batch_size=None``,
        an iterable data set) or if its data set cannot get attributes.
    """
    batches: Any = loader.batch_sampler
    if isinstance(batches, NumberedBatches):
        return batches
    if batches is None or not seed_items(loader.dataset):
        return None
    # A loader refuses another batch sampler, which might contradict its batch_size.
    # This one gives the same batches.
    vars(loader)['batch_sampler'] = numbered = NumberedBatches(batches, seed, share)
    return numbered


def sampler_of(batches: Any) -> Sampler | None:
    """The sampler behind a batch sampler, or None if it has none."""
    return getattr(batches, 'sampler', None)
