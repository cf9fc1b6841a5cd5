"""What the links of a network cost, and a decision about them. Pure numbers.

A training step is a sequence of passes. Each says how many bytes it needs at most, how
many stay until its backward pass and how many stay after it. `peaks` adds them up.
Bytes are integers, FLOPs are 2 a multiply-add.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...settings.recompute_mode import RecomputeMode

MODES = tuple(RecomputeMode)
# What depends on batch and crop size.
_MEASURED = (
    'units',
    'heads',
    'tail',
    'auxiliaries',
    'outputs',
    'skips',
    'start_bytes',
    'end_to_end',
)


class Pass(NamedTuple):
    """One piece of the network, run forward and backward.

    Args:
        forward_peak: Most bytes at a time beyond those alive when it starts.
        kept: Bytes that stay until its backward pass, its output included.
        backward_peak: Most bytes at a time beyond those alive when its backward
            starts, the gradient of its output included. May be negative.
        released: How much higher the backward peak is if the output stays alive.
        input_held: How much higher it is if the input stays alive.
        both_held: How much higher it is if both do.
        grad_held: How much higher it is if the output and its gradient stay alive.
        all_held: How much higher it is if input, output and gradient do.
        keeps_output: Whether it keeps its output for its own backward, so that the
            next one's runs with its input alive.
        frees_skips: Bytes of the skips that it takes and does not keep: free as soon as
            it has run if they come from before a wall.
        frees_input: Bytes of the map at the wall right before it that it does not keep.
        grads: Bytes of parameter gradients that stay.
        casts: Bytes of weight copies in half precision, which stay until autocast
            ends.
        cache: Bytes of ``casts`` that nothing but autocast's cache holds.
        flops: Forward, backward and recompute.
        forward_flops: Of them, those of the forward pass.
    """

    forward_peak: int = 0
    kept: int = 0
    backward_peak: int = 0
    released: int = 0
    input_held: int = 0
    both_held: int = 0
    grad_held: int = 0
    all_held: int = 0
    keeps_output: bool = False
    frees_skips: int = 0
    frees_input: int = 0
    grads: int = 0
    casts: int = 0
    cache: int = 0
    flops: int = 0
    forward_flops: int = 0


#: The passes of a piece by `RecomputeMode`.
Modes = tuple[Pass, Pass | None, Pass | None]


class Variants(NamedTuple):
    """The passes of one piece, each by `RecomputeMode`; None where it changes nothing.

    A map that comes from before the wall of the module needs no gradient.

    Args:
        inner: No map that the piece reads comes from there.
        first: All do: the piece is right behind the wall.
        between: The earliest one does, the two earliest do and so on, if the piece
            reads more than one.
    """

    inner: Modes
    first: Modes
    between: tuple[Modes, ...] = ()

    @property
    def plain(self) -> Pass:
        """The pass inside a module that keeps everything."""
        return self.inner[0]

    def modes(self) -> list[RecomputeMode]:
        """The modes that there are."""
        return [mode for mode in MODES if self.inner[mode] is not None]

    def among(self, modes: Sequence[RecomputeMode]) -> Sequence[RecomputeMode]:
        """Those of the given modes that there are; a single one is taken anyway."""
        return modes if len(modes) == 1 else [m for m in modes if m in self.modes()]

    def choose(self, mode: RecomputeMode, num_carried: int | None) -> Pass:
        """The pass for a mode; of no effect where there is none.

        Args:
            mode: How it is recomputed.
            num_carried: How many of its maps come from before the wall; None for all.
        """
        rows = (self.inner, *self.between, self.first)
        passes = rows[-1 if num_carried is None else num_carried]
        return passes[mode] or passes[0]

    def recompute_flops(self, mode: RecomputeMode) -> int:
        """What a mode adds: at least 1, so that it is taken only for a reason."""
        step = self.inner[mode]
        if mode is RecomputeMode.NOTHING or step is None:
            return 0
        return max(1, step.flops - self.plain.flops)


class Output(NamedTuple):
    """A stage output of the backbone.

    Args:
        unit: Index of the unit that emits it.
        num_bytes: Its size.
        is_flow: Whether it is the very map that goes on to the next unit.
    """

    unit: int
    num_bytes: int
    is_flow: bool


class Skip(NamedTuple):
    """A map that a later unit reads besides the one that flows.

    Args:
        unit: Index of the unit that puts it aside.
        reader: Index of the unit that takes it.
        num_bytes: Its size.
        grad_bytes: Bytes that its gradient holds until the backward of ``unit``:
            more than its size where it is a part of a larger tensor.
    """

    unit: int
    reader: int
    num_bytes: int
    grad_bytes: int


class Waiting(NamedTuple):
    """A gradient that waits for another one of the same map.

    Args:
        unit: Index of the unit that makes the map.
        num_bytes: Bytes that it holds.
        map_bytes: Size of the map.
    """

    unit: int
    num_bytes: int
    map_bytes: int


class UnitCost(NamedTuple):
    """A unit of the backbone.

    Args:
        name: As in the state dict.
        passes: Its costs.
        parameter_bytes: Its weights.
        flow_bytes: What it hands to the next unit.
        is_trainable: Whether it has parameters that need a gradient.
        writes_input: Whether it changes what flows in, in place.
    """

    name: str
    passes: Variants
    parameter_bytes: int
    flow_bytes: int
    is_trainable: bool = True
    writes_input: bool = False


class HeadCost(NamedTuple):
    """The local head that a cut after a unit would bring.

    Args:
        step: Its costs.
        parameter_bytes: Its weights.
        after_reader: Its costs where an auxiliary head reads the same map: their
            gradients are added up. None elsewhere.
    """

    step: Pass
    parameter_bytes: int
    after_reader: Pass | None = None


class AuxiliaryCost(NamedTuple):
    """An auxiliary head.

    Args:
        step: Its costs.
        reads: Indices of the stage outputs it reads.
    """

    step: Pass
    reads: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Chain:
    """A network with all its candidate cuts, for one batch and crop size.

    Args:
        units: In the order they run.
        heads: The local head behind each unit.
        tail: Neck, decode head and its loss.
        tail_reads: Indices of the stage outputs the tail reads.
        auxiliaries: Auxiliary heads that are trained with the module that
            makes their map.
        outputs: Stage outputs of the backbone.
        skips: Maps that cross units.
        start_bytes: Alive before the step: parameters and buffers without local
            heads, the batch. Without optimizer state.
        parameter_bytes: Trainable parameters without local heads.
        optimizer_factor: Optimizer-state bytes per parameter byte.
        step_factor: Most bytes that the optimizer needs for a moment, per
            parameter byte.
        assumed: Operators whose result depends on the data.
        end_to_end: The same network where it is cut nowhere, if it trains differently
            then: its decode and auxiliary heads keep the stock losses.
    """

    units: tuple[UnitCost, ...]
    heads: tuple[HeadCost, ...]
    tail: Variants
    tail_reads: tuple[int, ...] = ()
    auxiliaries: tuple[AuxiliaryCost, ...] = ()
    outputs: tuple[Output, ...] = ()
    skips: tuple[Skip, ...] = ()
    start_bytes: int = 0
    parameter_bytes: int = 0
    optimizer_factor: float = 0.0
    step_factor: float = 0.0
    assumed: tuple[str, ...] = ()
    end_to_end: 'Chain | None' = None

    def of(self, partition: 'Partition') -> 'Chain':
        """The costs that count for a partition."""
        is_uncut = len(partition.ends) == 1 or partition.is_exact
        return self.uncut if is_uncut else self

    @property
    def uncut(self) -> 'Chain':
        """The costs that count where there is no cut."""
        return self.end_to_end or self

    def with_optimizer(self, optimizer_factor: float, step_factor: float) -> 'Chain':
        """The same network trained by another optimizer."""
        end_to_end = self.end_to_end
        return dataclasses.replace(
            self,
            optimizer_factor=optimizer_factor,
            step_factor=step_factor,
            end_to_end=end_to_end
            and end_to_end.with_optimizer(optimizer_factor, step_factor),
        )

    @property
    def whole(self) -> 'Partition':
        """End-to-end training: cut nowhere, nothing recomputed."""
        return Partition((len(self.units),))

    @property
    def checkpointed(self) -> 'Partition':
        """End-to-end training with every unit recomputed."""
        units = range(len(self.units))
        return Partition((len(units),), dict.fromkeys(units, RecomputeMode.WHOLE))

    def splits(self, partition: 'Partition') -> tuple[str, ...]:
        """Names of the last units of all modules but the last."""
        return tuple(self.units[cut - 1].name for cut in partition.ends[:-1])

    def cut_after(self, splits: Iterable[str]) -> 'Partition':
        """The partition with these splits that recomputes nothing.

        Raises:
            ValueError: if a name is none of a unit.
        """
        names = [unit.name for unit in self.units]
        return Partition((*(names.index(split) + 1 for split in splits), len(names)))

    @functools.cached_property
    def grads_before(self) -> tuple[int, ...]:
        """Gradients that the units before each one, and all units, leave behind."""
        grads = (unit.passes.plain.grads for unit in self.units)
        return tuple(itertools.accumulate(grads, initial=0))

    @functools.cached_property
    def casts_before(self) -> tuple[int, ...]:
        """Weight copies that they leave behind, likewise."""
        casts = (unit.passes.plain.casts for unit in self.units)
        return tuple(itertools.accumulate(casts, initial=0))

    @functools.cached_property
    def forward_flops_before(self) -> tuple[int, ...]:
        """FLOPs of the forward passes of the units before each one, and of all."""
        flops = (unit.passes.plain.forward_flops for unit in self.units)
        return tuple(itertools.accumulate(flops, initial=0))

    @functools.cached_property
    def first_trainable(self) -> int:
        """Index of the first unit whose parameters need a gradient, if any."""
        trainable = (i for i, unit in enumerate(self.units) if unit.is_trainable)
        return next(trainable, len(self.units))

    @functools.cached_property
    def memo(self) -> dict[Any, Any]:
        """Where searches keep what they derive from the costs, for the next search."""
        return {}

    def head_state_bytes(self, cut: int) -> int:
        """Weights and optimizer state of the local head before boundary ``cut``."""
        return round((1 + self.optimizer_factor) * self.heads[cut - 1].parameter_bytes)

    def attached(self, start: int, end: int) -> list[AuxiliaryCost]:
        """Auxiliary heads that a module of units [start, end) trains."""
        return [r for r in self.auxiliaries if start <= self.last_read(r) < end]

    def last_read(self, reader: AuxiliaryCost) -> int:
        """Index of the unit that makes the last map a reader needs."""
        return max(self.outputs[i].unit for i in reader.reads)

    def carried_bytes(self, start: int) -> int:
        """What crosses the wall before unit ``start`` and is read behind it."""
        if start == 0:
            return 0
        readers = [r.reads for r in self.auxiliaries if self.last_read(r) >= start]
        read = set(self.tail_reads).union(*readers)
        kept = (out for i, out in enumerate(self.outputs) if i in read)
        return self.units[start - 1].flow_bytes + sum(
            out.num_bytes
            for out in kept
            if out.unit < start and not (out.is_flow and out.unit == start - 1)
        )


@dataclasses.dataclass(frozen=True)
class Partition:
    """A decision: where to cut and what to recompute.

    Args:
        ends: Index behind the last unit of every module, increasing; the last one
            is the number of units, twice if the last module is the tail alone.
        recompute: How units are recomputed, by index; those that are not are left out.
        tail_mode: How the decode head is recomputed.
        is_exact: Whether gradients cross the walls: modules run again in backward, as
            segments, and there are no local heads.
    """

    ends: tuple[int, ...]
    recompute: Mapping[int, RecomputeMode] = dataclasses.field(default_factory=dict)
    tail_mode: RecomputeMode = RecomputeMode.NOTHING
    is_exact: bool = False

    @property
    def starts(self) -> tuple[int, ...]:
        """Index of the first unit of every module."""
        return (0, *self.ends[:-1])

    @property
    def heads(self) -> tuple[int, ...]:
        """The boundaries that have a local head, as indices of the unit behind."""
        return () if self.is_exact else self.ends[:-1]

    def mode(self, unit: int) -> RecomputeMode:
        """How a unit is recomputed."""
        return self.recompute.get(unit, RecomputeMode.NOTHING)


def interpolate(first: Chain, second: Chain, weight: float) -> Chain:
    """A chain on the line through two.

    Bytes and FLOPs grow linearly with the batch and with the area of the crop, apart
    from what weights need; only where another operator becomes the peak of a pass is
    there a kink.

    Args:
        first: Costs at weight 0.
        second: Costs at weight 1, of the same network.
        weight: Any number.
    """
    return dataclasses.replace(
        first,
        **{
            name: _between(getattr(first, name), getattr(second, name), weight)
            for name in _MEASURED
        },
    )


def _between(first: Any, second: Any, weight: float) -> Any:
    if first is None or second is None:
        return None
    if isinstance(first, Chain):
        return interpolate(first, second, weight)
    if isinstance(first, tuple):
        values = [_between(a, b, weight) for a, b in zip(first, second, strict=True)]
        return type(first)(*values) if hasattr(first, '_fields') else tuple(values)
    if isinstance(first, int) and not isinstance(first, bool):
        return round(first + weight * (second - first))
    return first
