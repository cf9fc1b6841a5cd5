"""The processes of a pipeline as one of them sees them: groups and links."""

from datetime import timedelta
from typing import Any

import torch
from mmengine.device import get_device
from torch import distributed

from .layout import Layout
from .link import Link


class Processes:
    """The stage and replica of this process, and its connections.

    Every process must make one at the same time.

    Args:
        layout: Which process is which.
        rank: This process.
        timeout: Seconds that a process may keep another waiting.
    """

    def __init__(self, layout: Layout, rank: int, timeout: float) -> None:
        self.layout = layout
        self.stage = layout.stage(rank)
        self.replica = layout.replica(rank)
        self.is_last_stage = self.stage == layout.num_stages - 1
        # Every process has to take part in making every group.
        self._headers: Any = distributed.new_group(
            timeout=timedelta(seconds=timeout), backend='gloo'
        )
        by_stage: list[Any] = [
            distributed.new_group(layout.ranks_of_stage(stage))
            for stage in range(layout.num_stages)
        ]
        by_replica: list[Any] = [
            distributed.new_group(layout.ranks_of_replica(replica))
            for replica in range(layout.num_replicas)
        ]
        #: Those that train the same modules, each on its own images.
        self.stage_group = by_stage[self.stage]
        #: Those that train on the same images.
        self.replica_group = by_replica[self.replica]

    def link(self, stage: int, depth: int) -> Link:
        """A link to or from another stage of this replica, for maps and losses."""
        return self._link(stage, get_device(), depth)

    def cpu_link(self, stage: int) -> Link:
        """A link to or from another stage of this replica, for tensors on the CPU."""
        return self._link(stage, 'cpu', 1)

    def sources(self) -> dict[int, int]:
        """For every stage, its process in this replica."""
        stages = range(self.layout.num_stages)
        return {stage: self.layout.rank(stage, self.replica) for stage in stages}

    def _link(self, stage: int, device: torch.device | str, depth: int) -> Link:
        rank = self.layout.rank(stage, self.replica)
        return Link(rank, self.layout.name(rank), self._headers, device, depth)
