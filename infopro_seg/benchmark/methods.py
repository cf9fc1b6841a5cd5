"""The ways to train one network that a benchmark compares."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from ..arguments import takes
from ..models.recompute.run import ALL
from ..planner.make import Setting, planned_model
from ..planner.search.costs import Chain, Partition
from ..planner.search.decide import cheapest, most_even, smallest
from ..planner.search.frontiers import AUTO
from ..planner.search.totals import predicted_peak, spelled_recompute
from ..scopes import class_of
from ..settings import without_end_to_end
from ..settings.localize import stock_model_config
from ..settings.plan import Plan
from .method import (
    CHECKPOINTING,
    END_TO_END,
    EXACT,
    KINDS,
    LOCAL,
    LOCAL_RECOMPUTE,
    RIVALS,
    Method,
)
from .rivals import BUDGETS, rivals

_NEAR_SMALLEST = 1.1


def methods(
    setting: Setting,
    kinds: Sequence[str],
    num_modules: Sequence[int],
    *,
    keeps_auxiliary_heads: bool = True,
    updates_at_once: bool = True,
    budgets: Sequence[float] = BUDGETS,
) -> list[Method]:
    """What is to be compared.

    End-to-end training and checkpointing use the stock model, without the ``local``
    settings. The local methods are cut as ``num_modules`` of a config is. With
    recompute, they are cut so that they need the fewest FLOPs within 10% of the least
    memory. Exact training by segments has the splits and the recompute of the config,
    and is left out where that does not set ``end_to_end_every=1``.

    Args:
        setting: The network, with the ``local`` settings of the local methods.
        kinds: Some of `KINDS`.
        num_modules: K of the local methods, one method each.
        keeps_auxiliary_heads: Whether the local methods train the stock auxiliary
            heads beside their local heads.
        updates_at_once: Whether the optimizer updates all parameters at once, as on a
            GPU. One by one, it needs hardly any temporary memory.
        budgets: Shares of the activations that compiled training may keep, one method
            each.

    Raises:
        ValueError: if a K is impossible, or if a kind is unknown.
    """
    _check_kinds(kinds)
    setting, exact = _without_end_to_end(_padding_to_crop(setting))
    stock = dataclasses.replace(setting, model=stock_model_config(setting.model))
    if not keeps_auxiliary_heads:
        model = {**setting.model, 'auxiliary_head': None}
        setting = dataclasses.replace(setting, model=model)
    stock_chain, local_chain = stock.measured(), setting.measured()
    if not updates_at_once:
        stock_chain, local_chain = (
            chain.with_optimizer(chain.optimizer_factor, 0)
            for chain in (stock_chain, local_chain)
        )
    makers: dict[str, Callable[[], list[Method]]] = {
        END_TO_END: lambda: [_end_to_end(stock, stock_chain)],
        CHECKPOINTING: lambda: [_checkpointing(stock, stock_chain)],
        EXACT: lambda: [] if exact is None else [_exact(exact, local_chain)],
        LOCAL: lambda: [_local(setting, local_chain, LOCAL, k) for k in num_modules],
        LOCAL_RECOMPUTE: lambda: [
            _local(setting, local_chain, LOCAL_RECOMPUTE, k) for k in num_modules
        ],
    }
    for kind in RIVALS:
        makers[kind] = functools.partial(
            rivals, stock, _without_weights(stock.model), stock_chain, kind, budgets
        )
    return [method for kind in kinds for method in makers[kind]()]


def _check_kinds(kinds: Sequence[str]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(
                f'method {kind!r} is unknown; allowed: {", ".join(KINDS)}.'
            )


def _without_end_to_end(setting: Setting) -> tuple[Setting, Setting | None]:
    """The setting with local modules, and the one of exact training if it is that."""
    local, period = without_end_to_end(setting.model.get('local'))
    if period is None:
        return setting, None
    model = {**setting.model, 'local': local}
    return dataclasses.replace(setting, model=model), setting if period == 1 else None


def _exact(setting: Setting, chain: Chain) -> Method:
    model = _without_weights(setting.model)
    # Cuts by num_modules or a plan are settled by the network.
    local = MODELS.build(ConfigDict(copy.deepcopy(model))).local
    how = f'segments that end with {", ".join(local["splits"])} run again in backward'
    if local['recompute']:
        how += f'; recompute={local["recompute"]}'
    step = setting.tracked_step_of(model)
    partition = chain.cut_after(local['splits'])
    return Method(EXACT, setting, model, partition, chain, how, step)


def _end_to_end(stock: Setting, chain: Chain) -> Method:
    model = _without_weights(stock.model)
    how = 'stock model'
    return Method(END_TO_END, stock, model, chain.whole, chain, how, label='')


def _checkpointing(stock: Setting, chain: Chain) -> Method:
    """``with_cp``, as a user would set it; without it, recompute of every unit."""
    partition = chain.checkpointed
    backbone = stock.model['backbone']
    if takes_with_cp(backbone['type']):
        model = _without_weights(stock.model)
        model['backbone'] = {**backbone, 'with_cp': True}
        how = 'stock model, with_cp=True'
    else:
        model = planned_model(stock.model, recompute=ALL)
        how = 'recompute of every unit, as the backbone has no with_cp'
    return Method(CHECKPOINTING, stock, model, partition, chain, how, label='')


def _local(setting: Setting, chain: Chain, kind: str, num_modules: int) -> Method:
    if kind == LOCAL:
        partition = most_even(chain, num_modules)
    else:
        partition = _frugal(chain, num_modules)
    return _cut(setting, chain, kind, partition)


def planned(setting: Setting, chain: Chain, budget: int, kind: str) -> Method | None:
    """The plan that the planner chooses within a budget; None if nothing fits.

    Args:
        setting: The network, with its ``local`` settings.
        chain: Its costs.
        budget: Peak memory of a training step in bytes.
        kind: Its name in tables, followed by the number of modules.
    """
    partition = cheapest(chain, budget)
    return None if partition is None else _cut(setting, chain, kind, partition)


def from_plan(setting: Setting, plan: Plan) -> Method:
    """The method of a finished plan; its step is counted on fake tensors."""
    chain = setting.measured()
    period = plan.end_to_end_every
    partition = dataclasses.replace(chain.cut_after(plan.splits), is_exact=period == 1)
    model = planned_model(setting.model, plan.splits, plan.recompute, period=period)
    how = f'cut after {", ".join(plan.splits) or "nothing"}'
    counted = setting.tracked_step_of(model)
    return Method('plan', setting, model, partition, chain, how, counted)


def _cut(setting: Setting, chain: Chain, kind: str, partition: Partition) -> Method:
    splits = chain.splits(partition)
    recompute = spelled_recompute(chain, partition)
    model = planned_model(setting.model, splits, recompute)
    how = f'cut after {", ".join(splits) or "nothing"}'
    if recompute:
        how += f'; {len(recompute)} of {len(chain.units) + 1} recomputed'
    return Method(kind, setting, model, partition, chain, how)


def _frugal(chain: Chain, num_modules: int) -> Partition:
    """Near the least memory: the last few percent cost much recompute."""
    least = smallest(chain, num_modules=num_modules, recompute=AUTO)
    budget = int(_NEAR_SMALLEST * predicted_peak(chain, least))
    return cheapest(chain, budget, num_modules=num_modules) or least


def _padding_to_crop(setting: Setting) -> Setting:
    """The setting without padding: a preprocessor pads to the size of the config."""
    model = copy.deepcopy(dict(setting.model))
    preprocessor = model.get('data_preprocessor')
    if preprocessor and preprocessor.get('size') is not None:
        preprocessor['size'] = tuple(setting.crop_size)
    return dataclasses.replace(setting, model=model)


def _without_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model config that loads nothing: speed does not depend on weights."""
    return {**copy.deepcopy(dict(model)), 'pretrained': None}


def takes_with_cp(backbone: str | type) -> bool:
    """Whether a class of backbones has mmseg's setting for checkpointing."""
    cls = class_of(MODELS, backbone)
    return takes(cls, 'with_cp')
