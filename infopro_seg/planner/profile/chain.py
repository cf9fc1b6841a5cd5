"""Measures what each link of a network costs, on fake tensors.

Every unit, every candidate local head, every auxiliary head and the decode head run
once forward and backward, alone, on maps of the right shape, in each way a plan could
run them: behind a wall or not, recomputed or not. What is measured is put
together in `costs`; a whole step for comparison is in `fake_step`.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...compat import version_of
from ...models.build import build_local_heads
from ...models.heads.local_head import Losses
from ...models.losses.chunked import use_lean_loss
from ...models.probe import Probe, probe_backbone
from ...models.readers import auxiliary_heads, reads_by_head, stages_of
from ...models.recompute.run import run_unit
from ...models.segmentor import head_losses
from ...models.tensor_bytes import num_bytes_of
from ...settings import LocalSettings, with_cuts, without_cuts
from ...settings.recompute_mode import DECODE_HEAD, RecomputeMode
from ...units import State, Unit, units_of
from ..search.costs import (
    AuxiliaryCost,
    Chain,
    HeadCost,
    Output,
    Pass,
    Skip,
    UnitCost,
    Variants,
)
from .fake_step import fake_batch, fake_copy, fake_segmentor, fake_tensors
from .meter import Meter, flow_tensors, fresh_state, tensors_of
from .simulation import naming_culprit


def profile_chain(
    model: Mapping,
    *,
    batch_size: int,
    crop_size: tuple[int, int],
    amp_dtype: torch.dtype | None = None,
) -> Chain:
    """Measure a network, cut nowhere, with all candidate local heads.

    Args:
        model: Config of an `InfoProEncoderDecoder`; its cuts and recompute settings
            have no effect.
        batch_size: Images per step.
        crop_size: (height, width) in pixels.
        amp_dtype: Type of mixed precision; None for none.

    Returns:
        Costs without an optimizer, see `Chain.with_optimizer`.

    Raises:
        SimulationError: if the network does not run on fake tensors.
    """
    local = with_cuts(without_cuts(model['local']), ())
    with torch.random.fork_rng(devices=[]):
        network = MODELS.build(ConfigDict(copy.deepcopy({**model, 'local': local})))
        units = units_of(network.backbone)
        probe = probe_backbone(network.backbone, units, sizes=[crop_size])
        settings = LocalSettings.parse(local)
        heads = _candidate_heads(settings, network, probe)
        reads = reads_by_head(network, probe.outputs)
    with fake_tensors() as (fake_mode, assumed):
        fake = fake_segmentor(network, fake_mode)
        heads = [fake_copy(head, fake_mode) for head in heads]
        inputs, samples = fake_batch(fake, batch_size, crop_size)
        meter = Meter(fake, amp_dtype, assumed)
        profile = _Profile(fake, meter, inputs, samples, settings.look_ahead)
        with naming_culprit(fake):
            chain = profile.chain(heads, reads)
    return dataclasses.replace(chain, assumed=tuple(sorted(assumed.operators)))


@dataclasses.dataclass
class _Backbone:
    """What has been measured of a backbone: one entry per unit, output and skip."""

    units: list[UnitCost] = dataclasses.field(default_factory=list)
    heads: list[HeadCost] = dataclasses.field(default_factory=list)
    #: What each unit hands on.
    states: list[State] = dataclasses.field(default_factory=list)
    outputs: list[Output] = dataclasses.field(default_factory=list)
    skips: list[Skip] = dataclasses.field(default_factory=list)

    def keeps_last_map(self) -> bool:
        """Whether the last map so far stays alive while the next unit runs."""
        if not self.units:
            return False
        last = len(self.units) - 1
        is_emitted = any(out.is_flow and out.unit == last for out in self.outputs)
        return self.units[-1].passes.plain.keeps_output or is_emitted


class _Profile:
    """Measures all links of one fake network."""

    def __init__(
        self,
        network: Any,
        meter: Meter,
        inputs: Tensor,
        samples: list[SegDataSample],
        look_ahead: int,
    ):
        self.network = network
        self.backbone = network.backbone
        self.units = units_of(self.backbone)
        self.look_ahead = look_ahead
        self.meter = meter
        self.inputs = inputs
        self.samples = samples
        meter.tracker.track([inputs, *(s.gt_sem_seg.data for s in samples)])

    def chain(self, heads: list[nn.Module], reads: Mapping) -> Chain:
        """Costs of the whole network, link by link; see `reads_by_head`."""
        start_bytes = self.meter.tracker.live_bytes
        backbone = self._backbone(heads)
        state = backbone.states[-1]
        tail_reads, auxiliaries = self._readers(state, reads)
        for reader in auxiliaries:
            last = backbone.outputs[max(reader.reads)]
            if last.is_flow:
                again = self._head(
                    heads[last.unit],
                    backbone.states[last.unit],
                    last.unit,
                    has_reader=True,
                )
                head = backbone.heads[last.unit]
                backbone.heads[last.unit] = head._replace(after_reader=again.step)
        chain = Chain(
            units=tuple(backbone.units),
            heads=tuple(backbone.heads),
            tail=self._tail(state, tail_reads),
            tail_reads=tail_reads,
            auxiliaries=auxiliaries,
            outputs=tuple(backbone.outputs),
            skips=tuple(backbone.skips),
            start_bytes=start_bytes,
            parameter_bytes=_trainable_bytes(self.network),
        )
        if not self._is_lean_behind_walls():
            return chain
        _, auxiliaries = self._readers(state, reads)
        return dataclasses.replace(
            chain,
            tail=self._tail(state, tail_reads),
            auxiliaries=auxiliaries,
            end_to_end=chain,
        )

    def _backbone(self, heads: list[nn.Module]) -> '_Backbone':
        """Costs of all units, each with a local head behind it."""
        found = _Backbone()
        # Of each skip in the state: index of the unit that made it.
        makers: list[int] = []
        state = State(self.inputs)
        for i, (unit, head) in enumerate(zip(self.units, heads, strict=True)):
            versions = [version_of(t) for t in flow_tensors(state)]
            before, (state, kept_skips) = state, self._next(unit, state)
            writes_input = versions != [version_of(t) for t in flow_tensors(before)]
            taken = [k for k in range(len(makers)) if k not in kept_skips]
            cost, grad_bytes = self._unit(
                unit, before, state, i == 0, taken, found.keeps_last_map()
            )
            found.skips += _skips(before, taken, makers, i, grad_bytes)
            makers = [i if k is None else makers[k] for k in kept_skips]
            found.units.append(cost._replace(writes_input=writes_input))
            found.heads.append(self._head(head, state, i))
            found.states.append(state)
            found.outputs += _outputs(state, i, len(found.outputs))
        return found

    def _is_lean_behind_walls(self) -> bool:
        """Let heads take their loss as in a network with walls; whether any does."""
        if self.network.lean_loss is not None:
            return False
        return None in self.network.use_lean_losses().values()

    def _next(self, unit: Unit, state: State) -> tuple[State, list[int | None]]:
        """The state after a unit, in new storage and without history.

        Also, for each skip in it, its index in the state before; None for a new one.
        """
        with self.meter.running(), torch.no_grad():
            after = unit(self.backbone, state)
        ids = [id(skip) for skip in state.skips]
        kept = [
            ids.index(id(skip)) if id(skip) in ids else None for skip in after.skips
        ]
        return fresh_state(after, requires_grad=False), kept

    def _unit(
        self,
        unit: Unit,
        before: State,
        after: State,
        is_first: bool,
        taken: list[int],
        input_is_kept: bool,
    ) -> tuple[UnitCost, int]:
        """Its costs, and the bytes of the gradients of the skips that it takes."""
        skip_grads = [0]

        def measure(mode: RecomputeMode, num_carried: int) -> Pass:
            step, grad_bytes = self.meter.unit(
                lambda state: run_unit(unit, self.backbone, state, mode),
                before,
                is_first=is_first or num_carried > len(taken),
                passes_by=set(range(len(before.skips))) - set(taken),
                carried=taken[:num_carried],
                input_is_kept=input_is_kept,
            )
            skip_grads.append(grad_bytes)
            return _only_cached(step) if mode is RecomputeMode.WHOLE else step

        parameters = unit.parameters(self.backbone)
        cost = UnitCost(
            name=unit.name,
            passes=_variants(measure, len(taken) + 1),
            parameter_bytes=num_bytes_of(parameters),
            flow_bytes=num_bytes_of(flow_tensors(after)),
            is_trainable=any(p.requires_grad for p in parameters),
        )
        return cost, max(skip_grads)

    def _head(
        self, head: Any, state: State, unit: int, has_reader: bool = False
    ) -> HeadCost:
        ahead = self.units[unit + 1 : unit + 1 + self.look_ahead]

        def run(given: State) -> Losses:
            images = self.network.reconstruction_target(self.inputs)
            return head_losses(self.network, head, given, ahead, images, self.samples)

        step = self.meter.losses(run, state, head, has_reader=has_reader)
        return HeadCost(step, _trainable_bytes(head))

    def _readers(
        self, state: State, reads: Mapping[str, frozenset[int]]
    ) -> tuple[tuple[int, ...], tuple[AuxiliaryCost, ...]]:
        """What the tail reads, and the auxiliary heads that are not part of it."""
        if self.network.with_neck:
            return tuple(range(len(state.outputs))), ()
        auxiliaries = []
        for prefix, head in auxiliary_heads(self.network).items():
            # The tail is measured without it.
            self.network.auxiliary_module[prefix] = -1

            def run(given: State, head: Any = head) -> Losses:
                return head.loss(given.outputs, self.samples, self.network.train_cfg)

            step = self.meter.losses(run, state, head)
            auxiliaries.append(AuxiliaryCost(step, tuple(sorted(reads[prefix]))))
        return tuple(sorted(reads[DECODE_HEAD])), tuple(auxiliaries)

    def _tail(self, state: State, reads: tuple[int, ...]) -> Variants:
        def measure(mode: RecomputeMode, num_carried: int) -> Pass:
            self.network.head_mode = mode
            return self.meter.losses(
                lambda given: self.network.last_losses(given, self.samples),
                state,
                self.network,
                requires_grad=num_carried < len(reads),
                carried=reads[:num_carried],
                outlives_autocast=True,
            )

        return _variants(measure, len(reads))


def _candidate_heads(
    settings: LocalSettings, network: Any, probe: Probe
) -> list[nn.Module]:
    """A local head behind every unit, with both halves that any module would have."""
    heaviest = {
        part: max(ends) if isinstance(ends, list | tuple) else ends
        for part, ends in settings.weights.items()
    }
    settings = dataclasses.replace(settings, weights=heaviest)
    stages = stages_of(network.decode_head)
    ends = probe.boundaries
    last = len(ends) - 1
    ahead = [ends[min(i + settings.look_ahead, last)] for i in range(len(ends))]
    heads = build_local_heads(settings, ends, stages, probe.image_channels, ahead=ahead)
    for head in heads:
        if settings.lean_loss is not False and head.segmentation is not None:
            use_lean_loss(head.segmentation)
    return [revert_sync_batchnorm(head).train() for head in heads]


def _outputs(state: State, unit: int, num_earlier: int) -> list[Output]:
    """The stage outputs that a unit has added to those that were there before."""
    flow = {id(t) for t in flow_tensors(state)}
    return [
        Output(
            unit=unit,
            num_bytes=num_bytes_of(tensors_of(output)),
            is_flow=all(id(t) in flow for t in tensors_of(output)),
        )
        for output in state.outputs[num_earlier:]
    ]


def _skips(
    before: State, taken: list[int], makers: list[int], reader: int, grad_bytes: int
) -> list[Skip]:
    """The skips that a unit takes, their gradients' bytes shared out by size."""
    sizes = [num_bytes_of(tensors_of(before.skips[i])) for i in taken]
    total = max(1, sum(sizes))
    return [
        Skip(makers[i], reader, size, max(size, grad_bytes * size // total))
        for i, size in zip(taken, sizes, strict=True)
    ]


def _variants(measure: Callable[[RecomputeMode, int], Pass], num_maps: int) -> Variants:
    """All passes of a piece; a mode that changes nothing is left out.

    Args:
        measure: Gives the pass for a mode and a number of maps from before the wall.
        num_maps: How many maps the piece reads.
    """
    numbers = range(num_maps + 1)
    measured = [[measure(mode, n) for n in numbers] for mode in RecomputeMode]
    different = [
        [None for _ in numbers] if passes in measured[:i] else passes
        for i, passes in enumerate(measured)
    ]
    inner, *between, first = zip(*different, strict=True)
    return Variants(inner, first, tuple(between))


def _only_cached(step: Pass) -> Pass:
    """A recomputed pass saves no weight copies: only autocast's cache holds them."""
    return step._replace(cache=step.casts)


def _trainable_bytes(module: nn.Module) -> int:
    return num_bytes_of(p for p in module.parameters() if p.requires_grad)
