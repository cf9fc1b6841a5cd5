"""What torch offers for less memory on the stock model: the methods to beat.

Each changes a built model; gradients stay those of end-to-end training. The method's
``how`` says which measured numbers are not meaningful.
"""

import copy
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import CheckpointPolicy

from ..compat import PRODUCTS, backend_with_budget
from ..models.readers import stages_of
from ..models.recompute.run import run_recomputed
from ..planner.make import Setting
from ..planner.search.costs import Chain
from ..units import State, units_of
from .method import COMPILE, SAVE_ON_CPU, SELECTIVE, Change, Method

#: Shares of the activations that a compiled step may keep.
BUDGETS = (0.2, 0.5, 1.0)
#: torch compiles one function for 8 models at most and runs it uncompiled after that.
MOST_BUDGETS = 6


def rivals(
    stock: Setting,
    model: dict[str, Any],
    chain: Chain,
    kind: str,
    budgets: Sequence[float],
) -> list[Method]:
    """The methods of one kind.

    Args:
        stock: The stock network.
        model: Its config, without weights from elsewhere.
        chain: Its costs.
        kind: One of `RIVALS`.
        budgets: Memory budgets of compiled training, one method each.
    """

    def method(how: str, change: Change, label: str = '') -> Method:
        return Method(
            kind, stock, model, chain.whole, chain, how, change=change, label=label
        )

    if kind == SELECTIVE:
        how = (
            'stock model; every unit of the backbone keeps the results of convolutions '
            'and matrix products and recomputes the rest'
        )
        found = method(how, checkpoint_selectively)
        network = MODELS.build(ConfigDict(copy.deepcopy(model)))
        checkpoint_selectively(network, torch.device('cpu'))
        return [dataclasses.replace(found, counted=stock.tracked_step_of(network))]
    if kind == SAVE_ON_CPU:
        how = (
            'stock model; what backward needs is kept in pinned host memory, '
            'which is not counted'
        )
        return [method(how, offload)]
    return [
        method(
            f'torch.compile of backbone and heads, activation_memory_budget={budget:g};'
            ' inductor on a GPU; aot_eager on a CPU, whose operators can be counted, '
            'but which fuses nothing: its time is not that of compiled code',
            functools.partial(compile_network, budget=budget),
            f'{budget:g}',
        )
        for budget in budgets
        if kind == COMPILE
    ]


def checkpoint_selectively(model: nn.Module, device: torch.device) -> None:
    """Let each unit of the backbone keep products only, and recompute the rest."""
    backbone: Any = model.backbone
    backbone.forward = functools.partial(_selective_forward, backbone)


def compile_network(model: nn.Module, device: torch.device, *, budget: float) -> None:
    """Compile backbone, neck and heads; losses stay as they are."""
    name = 'inductor' if device.type == 'cuda' else 'aot_eager'
    # One for each model: compiled code is shared between models of one backend.
    backend = backend_with_budget(name, budget)
    for part in _parts(model):
        part.forward = torch.compile(part.forward, backend=backend, dynamic=False)


def offload(model: nn.Module, device: torch.device) -> None:
    """Keep what backward needs in host memory."""
    network: Any = model
    loss = network.loss

    def loss_on_host(*args: Any, **kwargs: Any) -> Any:
        with save_on_cpu(pin_memory=device.type == 'cuda'):
            return loss(*args, **kwargs)

    network.loss = loss_on_host


def _selective_forward(backbone: nn.Module, image: Tensor) -> Any:
    state = State(image)
    for unit in units_of(backbone):
        state = run_recomputed(unit, backbone, state, policy=_keep_products)
    return state.result()


def _keep_products(_: Any, operator: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    if operator in PRODUCTS:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _parts(model: Any) -> list[Any]:
    parts = [model.backbone]
    if model.with_neck:
        parts.append(model.neck)
    parts += stages_of(model.decode_head)
    if model.with_auxiliary_head:
        heads = model.auxiliary_head
        parts += heads if isinstance(heads, nn.ModuleList) else [heads]
    return parts
