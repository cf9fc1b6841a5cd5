"""Which process is which: stages times replicas. Pure, no torch."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Layout:
    """P stages times D replicas.

    Process 0 is the last stage: it is the one that knows all losses, and the host logs
    and saves in process 0.

    Args:
        num_stages: P.
        num_replicas: D: how many processes train one stage, each on its own images.

    Raises:
        ValueError: if a number is not positive.
    """

    num_stages: int
    num_replicas: int = 1

    def __post_init__(self) -> None:
        if self.num_stages < 1 or self.num_replicas < 1:
            raise ValueError(f'{self} must have at least one stage and one replica.')

    @classmethod
    def of(cls, num_stages: int, num_processes: int) -> 'Layout':
        """The layout of a number of processes.

        Raises:
            ValueError: if the stages do not divide the processes.
        """
        if num_processes % num_stages:
            raise ValueError(
                f'pipeline={num_stages} does not divide {num_processes} processes: '
                f'start a multiple of {num_stages}, such as tools/dist_train.sh CONFIG '
                f'{num_stages * max(1, round(num_processes / num_stages))}.'
            )
        return cls(num_stages, num_processes // num_stages)

    def rank(self, stage: int, replica: int) -> int:
        """The process of a stage and a replica."""
        return (self.num_stages - 1 - stage) * self.num_replicas + replica

    def stage(self, rank: int) -> int:
        """The stage of a process."""
        return self.num_stages - 1 - rank // self.num_replicas

    def replica(self, rank: int) -> int:
        """The replica of a process: which share of each batch it sees."""
        return rank % self.num_replicas

    def name(self, rank: int) -> str:
        """What a process is, for messages: ``stage 0 (process 1)``."""
        return f'stage {self.stage(rank)} (process {rank})'

    def ranks_of_stage(self, stage: int) -> list[int]:
        """The processes that train a stage, by replica."""
        return [self.rank(stage, replica) for replica in range(self.num_replicas)]

    def ranks_of_replica(self, replica: int) -> list[int]:
        """The processes that pass one batch on, from the first stage to the last."""
        return [self.rank(stage, replica) for stage in range(self.num_stages)]
