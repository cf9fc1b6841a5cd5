"""All that a report knows of one run. Plain data; infopro_seg.cli gathers it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..settings.plan import Plan
from .run_log import RunLog
from .run_state import RunState
from .text_log import TextLog


@dataclasses.dataclass(frozen=True)
class NetworkModule:
    """A local module as a row of units.

    Args:
        name: Such as ``local_0``.
        units: Names of its units, in order.
        recomputed: Those of them that are recomputed, as ``recompute`` spells them.
        heads: What is trained with it: the losses of its local head, the decode head,
            auxiliary heads.
    """

    name: str
    units: tuple[str, ...]
    recomputed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    heads: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as its local modules.

    Args:
        title: Backbone and decode head.
        modules: In the order they run; one for end-to-end training.
        end_to_end_every: As in the ``local`` setting.
    """

    title: str
    modules: tuple[NetworkModule, ...]
    end_to_end_every: int | None = None


@dataclasses.dataclass(frozen=True)
class Samples:
    """Pictures of validation images, and what their colours mean.

    Args:
        rows: Pictures by kind, (H, W, 3) uint8 RGB of one size.
        classes: (name, (red, green, blue)) of every class.
        checkpoint: Name of the file that the weights are of.
    """

    rows: Sequence[Mapping[str, np.ndarray]]
    classes: Sequence[tuple[str, tuple[int, int, int]]]
    checkpoint: str


@dataclasses.dataclass
class Run:
    """A run of tools/train.py.

    Args:
        name: Short name, different from those of the other runs on the page.
        folder: Its work dir.
        log: Its numbers.
        text: Its text log.
        state: Whether it runs.
        config: Text of its config; empty if there is none.
        network: None if it cannot be described; then ``missing`` says why.
        plan: What the planner predicts for it, likewise.
        samples: Likewise.
        missing: Sentences by the name of what is missing.
    """

    name: str
    folder: str
    log: RunLog
    text: TextLog
    state: RunState
    config: str = ''
    network: Network | None = None
    plan: Plan | None = None
    samples: Samples | None = None
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
