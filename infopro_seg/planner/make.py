"""Makes plans: measures a network, decides, and checks the decision on a fake step."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from ..settings import with_cuts, without_cuts, without_end_to_end
from ..settings.localize import local_type
from ..settings.plan import Plan
from ..settings.recompute_mode import DECODE_HEAD, RecomputeMode
from ..settings.sizes import gib
from .cache import cached
from .conditions import conditions
from .profile.chain import profile_chain
from .profile.fake_step import (
    SGD_MOMENTUM,
    TrackedStep,
    fake_tensors,
    optimizer_factors,
    track_step,
)
from .search.costs import Chain, Partition, interpolate
from .search.decide import MEMORY, SPEED, Wish, decide, totals_of
from .search.frontiers import AUTO, LEAST
from .search.totals import (
    described_modules,
    predicted_peak,
    spelled_recompute,
    total_flops,
)

# Context, libraries and workspaces: what the memory that the paper reports exceeds our
# prediction by, for its four settings, at most (docs/planner.md).
RESERVE_BYTES = round(3.1 * 2**30)
_MAX_ATTEMPTS = 4

Counted = TypeVar('Counted')


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is to be trained, and how.

    Args:
        model: Config of a stock or local segmentor, see `LOCAL_TYPES`.
        batch_size: Images per step and GPU.
        crop_size: (height, width) in pixels.
        optim_wrapper: As in the config of a run.
        amp_dtype: ``float16``, ``bfloat16`` or None.
    """

    model: Mapping
    batch_size: int
    crop_size: tuple[int, int]
    optim_wrapper: Mapping = dataclasses.field(default_factory=lambda: SGD_MOMENTUM)
    amp_dtype: str | None = None
    _chain: list[Chain] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )
    # Peaks that were tracked before: several cards often get the same plan.
    _tracked: dict = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def measured(self) -> Chain:
        """Costs of the network, from the cache if it was measured before."""
        if self._chain:
            return self._chain[0]
        model = planned_model(self.model)
        key = {
            'model': model,
            'batch_size': self.batch_size,
            'crop_size': list(self.crop_size),
            'amp': self.amp_dtype is not None,
        }
        # First, as it takes a moment: an optimizer may not run on fake tensors.
        with fake_tensors() as (_, assumed):
            factors = optimizer_factors(self.optim_wrapper, assumed)
        chain = cached(key, self._measure)
        both = tuple(sorted({*chain.assumed, *assumed.operators}))
        chain = dataclasses.replace(chain.with_optimizer(*factors), assumed=both)
        # What searches have found stays with the chain.
        self._chain.append(chain)
        return chain

    def tracked_peak(
        self, splits: tuple, recompute: tuple, *, period: int | None = None
    ) -> int:
        """The peak of the steps of a plan, counted on fake tensors.

        Args:
            splits: See `planned_model`.
            recompute: See `planned_model`.
            period: See `planned_model`. Of n steps, a local and the exact one are run.
        """
        key = tuple(splits), tuple(recompute), period
        if key not in self._tracked:
            model = planned_model(self.model, splits, recompute, period=period)
            kinds = (None,) if period in (None, 1) else (False, True)
            self._tracked[key] = max(
                self.tracked_peak_of(model, is_end_to_end=kind) for kind in kinds
            )
        return self._tracked[key]

    def tracked_peak_of(
        self, model: Mapping, *, is_end_to_end: bool | None = None
    ) -> int:
        """The peak of a step of a model config, see `tracked_step_of`."""

        def track(batch_size: int) -> int:
            step = self.tracked_step_of(model, batch_size, is_end_to_end=is_end_to_end)
            return step.peak_bytes

        return self._or_extrapolated(track, lambda two, three: 2 * two - three)

    def tracked_step_of(
        self,
        model: Mapping | nn.Module,
        batch_size: int | None = None,
        *,
        is_end_to_end: bool | None = None,
    ) -> TrackedStep:
        """A step of a model, or of its config, on fake tensors.

        Args:
            model: The model or its config.
            batch_size: That of the setting by default.
            is_end_to_end: Whether gradients cross the walls; as the model says by
                default.

        Raises:
            ValueError: if the network cannot be trained on this batch.
        """
        return track_step(
            model,
            batch_size=batch_size or self.batch_size,
            crop_size=self.crop_size,
            optim_wrapper=self.optim_wrapper,
            amp_dtype=self._dtype,
            is_end_to_end=is_end_to_end,
        )

    @property
    def _dtype(self) -> torch.dtype | None:
        # The fake device is a CPU, whose autocast casts what a GPU's does to bfloat16;
        # float16 has the same size.
        return None if self.amp_dtype is None else torch.bfloat16

    def _measure(self) -> Chain:
        def measure(batch_size: int) -> Chain:
            return profile_chain(
                planned_model(self.model),
                batch_size=batch_size,
                crop_size=self.crop_size,
                amp_dtype=self._dtype,
            )

        return self._or_extrapolated(
            measure, lambda two, three: interpolate(two, three, -1)
        )

    def _or_extrapolated(
        self,
        count: Callable[[int], Counted],
        to_one: Callable[[Counted, Counted], Counted],
    ) -> Counted:
        """Count for the batch size; for one image from two and three, if it must be."""
        try:
            return count(self.batch_size)
        except ValueError as error:
            # Batch norm on one value per channel. With SyncBN over several GPUs such
            # a batch can be trained, so follow the line through two and three images.
            if self.batch_size > 1 or 'more than 1 value per channel' not in str(error):
                raise
        return to_one(count(2), count(3))


def planned_model(
    model: Mapping,
    splits: Sequence[str] = (),
    recompute: str | Sequence[str] = (),
    *,
    period: int | None = None,
) -> dict[str, Any]:
    """A model config with these cuts, without weights from elsewhere.

    Args:
        model: Config of a stock or local segmentor.
        splits: Names of the last units of all modules but the last.
        recompute: As in the ``local`` setting.
        period: ``end_to_end_every`` of the ``local`` setting.
    """
    planned = copy.deepcopy(dict(model))
    planned.update(type=local_type(planned['type']), pretrained=None)
    local, _ = without_end_to_end(without_cuts(planned.get('local')))
    if period is not None:
        local['end_to_end_every'] = period
    planned['local'] = with_cuts(local, splits, recompute)
    return planned


def make_plan(
    setting: Setting,
    *,
    num_modules: int | None = None,
    gpu_memory: int | None = None,
    recompute: str = AUTO,
    reserve: int = RESERVE_BYTES,
    prefer: str = SPEED,
    exact: bool | None = None,
    verify: bool = True,
) -> Plan:
    """Decide where to cut, what runs again, and whether gradients cross the walls.

    With ``gpu_memory``: what is preferred among all that fits. Without: the most even
    ``num_modules`` local modules, or the segments of the least memory, in which
    nothing is recomputed unless ``recompute`` is ``always``. With
    ``recompute='least'``: whatever needs the least memory.

    Args:
        setting: What is to be trained.
        num_modules: Number of local modules or segments; None leaves it open.
        gpu_memory: Bytes of the GPU; None for no limit.
        recompute: ``never``, ``always``, ``auto`` for where it is needed to fit, or
            ``least``.
        reserve: Bytes of the GPU that the model may not use.
        prefer: ``accuracy``: exact training where that fits for at most
            `MOST_EXACT_WORK`, else the fewest local modules. ``speed``: the fewest
            FLOPs. ``memory``: the least memory.
        exact: Whether to plan exact end-to-end training alone, or local modules alone.
            None: as the model says with ``end_to_end_every``, else either.
        verify: Count a step of the plan, and plan again if it needs more than
            predicted and does not fit.

    Returns:
        The plan. If nothing fits, the one of the smallest peak, with ``fits`` False.

    Raises:
        ValueError: if neither ``num_modules`` nor ``gpu_memory`` nor ``least`` is
            given, if the network cannot be cut into ``num_modules``, or if the GPU has
            no more memory than the reserve.
    """
    if num_modules is None and gpu_memory is None and recompute != LEAST:
        raise ValueError('give num_modules, gpu_memory or both.')
    if gpu_memory is not None and gpu_memory <= reserve:
        raise ValueError(
            f'a GPU of {gib(gpu_memory)} has nothing left for the model: '
            f'{gib(reserve)} are set aside for context, libraries and workspaces. If '
            'yours needs less, say how much with --reserve; --max-batch finds the '
            'largest batch that fits.'
        )
    wish = wish_for(
        setting,
        num_modules=num_modules,
        recompute=recompute,
        prefer=prefer,
        exact=exact,
    )
    if gpu_memory is None and wish.exact is None:
        wish = wish._replace(exact=False)  # it is not asked for
    chain = setting.measured()
    missed = 0
    for _ in range(_MAX_ATTEMPTS):
        budget = None if gpu_memory is None else gpu_memory - reserve - missed
        partition, fits = decide(chain, wish, budget)
        plan = _plan(setting, chain, partition, wish, reserve)
        plan = dataclasses.replace(
            plan, gpu_memory_bytes=gpu_memory, reserve_bytes=reserve, fits=fits
        )
        if not verify:
            return plan
        tracked = setting.tracked_peak(
            plan.splits, plan.recompute, period=plan.end_to_end_every
        )
        plan = dataclasses.replace(plan, tracked_peak_bytes=tracked)
        if gpu_memory is None or not fits or tracked <= gpu_memory - reserve:
            return plan
        missed += tracked - plan.predicted_peak_bytes
    return dataclasses.replace(plan, fits=False)


def plan_in_use(
    setting: Setting,
    splits: Sequence[str],
    recompute: Mapping[str, RecomputeMode],
    period: int | None = None,
) -> Plan:
    """What is predicted for cuts that are chosen already; nothing is searched.

    Args:
        setting: What is trained.
        splits: Names of the last units of all modules but the last.
        recompute: How units and ``decode_head`` are recomputed, by name.
        period: ``end_to_end_every`` of the ``local`` setting.

    Raises:
        ValueError: if a name is none of a unit.
    """
    chain = setting.measured()
    modes = {i: recompute.get(unit.name) for i, unit in enumerate(chain.units)}
    partition = dataclasses.replace(
        chain.cut_after(splits),
        recompute={i: mode for i, mode in modes.items() if mode},
        tail_mode=recompute.get(DECODE_HEAD, RecomputeMode.NOTHING),
        is_exact=period == 1 and bool(splits),
    )
    wish = Wish(period=None if period == 1 else period)
    return _described(setting, chain, partition, wish, reserve=0)


def wish_for(setting: Setting, *, exact: bool | None = None, **wish: Any) -> Wish:
    """What a plan of a setting is to be like, see `make_plan`."""
    if exact is not None:
        return Wish(**wish, exact=exact)
    _, period = without_end_to_end(setting.model.get('local'))
    if period == 1:
        return Wish(**wish, exact=True)
    return Wish(**wish, period=period)


def _plan(
    setting: Setting, chain: Chain, partition: Partition, wish: Wish, reserve: int
) -> Plan:
    least, _ = decide(chain, wish._replace(num_modules=None, prefer=MEMORY), 0)
    return dataclasses.replace(
        _described(setting, chain, partition, wish, reserve),
        smallest_peak_bytes=totals_of(chain, wish, least)[0],
    )


def _described(
    setting: Setting, chain: Chain, partition: Partition, wish: Wish, reserve: int
) -> Plan:
    whole, checkpointed = chain.whole, chain.checkpointed
    peak, extra, total = totals_of(chain, wish, partition)
    flops = total_flops(chain, whole)
    period = wish.period if partition.heads else None
    return Plan(
        splits=chain.splits(partition),
        recompute=spelled_recompute(chain, partition),
        predicted_peak_bytes=peak,
        end_to_end_every=1 if partition.is_exact else period,
        end_to_end_peak_bytes=predicted_peak(chain, whole),
        checkpointing_peak_bytes=predicted_peak(chain, checkpointed),
        flops_overhead=extra / flops,
        flops_ratio=total / flops,
        batch_size=setting.batch_size,
        crop_size=setting.crop_size,
        amp_dtype=setting.amp_dtype,
        modules=described_modules(chain, partition),
        end_to_end=described_modules(chain, whole)[0],
        assumptions=_assumptions(setting, chain, partition, reserve),
        conditions=conditions(setting.model, setting.optim_wrapper),
    )


def _assumptions(
    setting: Setting, chain: Chain, partition: Partition, reserve: int
) -> tuple[str, ...]:
    sentences = [
        'counted are the tensors of one process without gradient accumulation; '
        "DistributedDataParallel's buckets come on top",
    ]
    if partition.heads:
        sentences.append('LocalBackwardHook is installed')
    if reserve == RESERVE_BYTES:
        sentences.append(
            f'the reserve of a GPU is that of the paper ({gib(RESERVE_BYTES)}), not '
            'one measured on yours'
        )
    reads = [what for what in chain.assumed if ' read by ' in what]
    largest = [what for what in chain.assumed if what not in reads]
    if largest:
        sentences.append(
            f'operators whose result depends on the data ({", ".join(largest)}) '
            'give their largest one: no label is ignored'
        )
    if reads:
        sentences.append(
            'numbers and conditions that depend on the data are taken as 0.5, 1 or '
            f'true: {", ".join(reads)}'
        )
    if setting.amp_dtype is not None:
        sentences.append("mixed precision casts what the CPU's autocast casts")
    return tuple(sentences)
