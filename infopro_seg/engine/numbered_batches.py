"""Training samples that know when they were drawn, and random numbers that follow.

A batch sampler is wrapped, not a data set: whatever wrappers do with an index (repeat,
look it up in a table, mix several images), the number of the draw is known before.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from .random_state import random_numbers_from


class Batches(Protocol):
    """A batch sampler: indices of the samples of one batch after another."""

    def __iter__(self) -> Iterator[list[Any]]: ...

    def __len__(self) -> int: ...


class NumberedIndex(NamedTuple):
    """What a sampler gave, and the seeds of this draw."""

    index: Any
    seeds: tuple[int, ...]


class NumberedBatches:
    """The batches of a batch sampler, in the same order.

    Args:
        batches: A batch sampler.
        seed: For samplers that have none.
    """

    def __init__(self, batches: Batches, seed: int) -> None:
        self.batches = batches
        self._seed = seed
        self._rank, self._world_size = get_dist_info()
        self._epoch = 0
        self._begun: tuple[Iterator, int] | None = None

    def __getattr__(self, name: str) -> Any:
        # Hooks of the host look for `sampler` and `batch_size`.
        if name.startswith('__') or name == 'batches':
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[NumberedIndex]]:
        batches, num_samples = self._begun or (iter(self.batches), 0)
        self._begun = None
        epoch, self._epoch = self._epoch, self._epoch + 1
        seed = getattr(sampler_of(self), 'seed', None)
        seed = self._seed if seed is None else seed
        for batch in batches:
            first = self._rank + num_samples * self._world_size
            yield [
                # SeedSequence takes a 0 at the end for nothing: numbers of the first
                # epoch are those of samplers without epochs.
                NumberedIndex(index, (seed, first + i * self._world_size, epoch))
                for i, index in enumerate(batch)
            ]
            num_samples += len(batch)

    def go_to(self, epoch: int, num_batches: int) -> int:
        """Let the next pass begin inside an epoch; no data is loaded.

        Args:
            epoch: Number of passes that were begun before it.
            num_batches: To leave out of it.

        Returns:
            How many of them the epoch did not have.
        """
        self._epoch = epoch
        batches, num_samples = iter(self.batches), 0
        self._begun = batches, 0
        for done in range(num_batches):
            batch = next(batches, None)
            if batch is None:
                return num_batches - done
            num_samples += len(batch)
            self._begun = batches, num_samples
        return 0


class SeededItems:
    """Loads samples, each from random numbers of its own.

    The loader calls it as ``__getitems__`` of the data set, in whatever process loads.

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
        if not isinstance(index, NumberedIndex):
            return self._get(index)
        with random_numbers_from(index.seeds):
            return self._get(index.index)

    def _get(self, index: Any) -> Any:
        return self._own([index])[0] if self._own else self._dataset[index]


def number_batches(loader: DataLoader, seed: int) -> NumberedBatches | None:
    """Give every sample of a loader random numbers of its own.

    Python's, numpy's and torch's CPU generator are seeded for each sample and continue
    afterwards as if nothing had been loaded. The numbers follow from the sampler's
    seed, the epoch and the number of draws before, over all processes: any number of
    workers and processes gives the same, and so does a resumed run.

    Args:
        loader: Changed in place, once.
        seed: For samplers that have none.

    Returns:
        The batches, or None if the loader has no batch sampler (``batch_size=None``,
        an iterable data set) or a data set that takes no attributes.
    """
    batches: Any = loader.batch_sampler
    if isinstance(batches, NumberedBatches):
        return batches
    dataset = loader.dataset
    if batches is None or isinstance(dataset, IterableDataset):
        return None
    if not hasattr(dataset, '__dict__'):
        return None
    vars(dataset)['__getitems__'] = SeededItems(dataset)
    # The loader refuses other batch samplers, as they may contradict its batch_size.
    # This one has the same batches.
    vars(loader)['batch_sampler'] = numbered = NumberedBatches(batches, seed)
    return numbered


def sampler_of(batches: Any) -> Sampler | None:
    """The sampler behind a batch sampler, or None if it has none."""
    return getattr(batches, 'sampler', None)
