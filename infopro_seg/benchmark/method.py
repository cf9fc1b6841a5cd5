"""One way to train a network, as a benchmark compares it. Nothing is run here."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..planner.make import Setting
from ..planner.profile.fake_step import TrackedStep
from ..planner.search.costs import Chain, Partition
from ..planner.search.totals import predicted_peak, total_flops

END_TO_END = 'end_to_end'
CHECKPOINTING = 'checkpointing'
LOCAL = 'local'
LOCAL_RECOMPUTE = 'local+recompute'
EXACT = 'exact'
SELECTIVE = 'selective'
COMPILE = 'compile'
SAVE_ON_CPU = 'save_on_cpu'
#: Kinds that the planner predicts.
PREDICTED = (END_TO_END, CHECKPOINTING, EXACT, LOCAL, LOCAL_RECOMPUTE)
#: Kinds that torch offers to save memory, on the stock model.
RIVALS = (SELECTIVE, COMPILE, SAVE_ON_CPU)
KINDS = PREDICTED + RIVALS
#: Meaningless on a CPU.
_GPU_ONLY = (SAVE_ON_CPU,)

Change = Callable[[nn.Module, torch.device], None]


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to train a network.

    Args:
        kind: One of `KINDS`, or a name of its own.
        setting: The network, batch, crop and optimizer.
        model: Config of the model that trains this way.
        partition: Cuts and recompute.
        chain: Costs of the network.
        how: What it is, in words.
        counted: A step on fake tensors, where the planner has no prediction.
        change: Applied to the built model before it trains. Neither memory nor FLOPs
            are predicted then, unless a step was counted.
        label: What distinguishes it from others of its kind. Default: the number of
            modules.
    """

    kind: str
    setting: Setting
    model: Mapping[str, Any]
    partition: Partition
    chain: Chain
    how: str
    counted: TrackedStep | None = None
    change: Change | None = None
    label: str | None = None

    @property
    def num_modules(self) -> int:
        """Number of local modules; 1 for end-to-end training."""
        return len(self.partition.ends)

    @property
    def name(self) -> str:
        """Its name in tables, such as ``local K=4``."""
        label = f'K={self.num_modules}' if self.label is None else self.label
        return f'{self.kind} {label}'.strip()

    @property
    def predicted_peak_bytes(self) -> int | None:
        """Peak memory of a training step in bytes; None if it is not predicted."""
        if self.counted is not None:
            return self.counted.peak_bytes
        if self.change is not None:
            return None
        return predicted_peak(self.chain, self.partition)

    @property
    def flops(self) -> int | None:
        """Operations of a training step; None if they are not predicted.

        A multiply-add counts as 2 FLOPs.
        """
        if self.counted is not None:
            return self.counted.flops
        if self.change is not None:
            return None
        return total_flops(self.chain, self.partition)


def runs_on(kind: str, device: str) -> bool:
    """Whether a kind of method is meaningful on ``cpu`` or ``cuda``."""
    return device == 'cuda' or kind not in _GPU_ONLY
