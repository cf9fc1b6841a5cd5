"""Which share of each batch a process trains on."""

import dataclasses

from mmengine.runner import Runner


@dataclasses.dataclass(frozen=True)
class DataShare:
    """One of several equal shares of the training data.

    Args:
        index: From 0.
        count: How many there are: the number of processes, unless several processes
            train on the same images, as the stages of a pipeline do.
    """

    index: int
    count: int


def data_share(runner: Runner) -> DataShare:
    """The share of this process; a runner with another one has ``data_share``."""
    own = getattr(runner, 'data_share', None)
    if isinstance(own, DataShare):
        return own
    return DataShare(runner.rank, runner.world_size)
