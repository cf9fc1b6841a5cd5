"""Recompute: activations of a unit are dropped and computed again in backward.

This is activation checkpointing inside a local module. It changes memory and time only:
losses, gradients and buffers stay equal bit for bit.
"""

import contextlib
import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from ...settings.recompute_mode import DECODE_HEAD, RecomputeMode, parsed
from ...units import State, Unit
from .buffers import EarlierBuffers, modules_of
from .inner import Renewed, without_inner_checkpoints
from .stepwise import stepwise_recompute

ALL = 'all'
Policy = Callable[..., CheckpointPolicy]


def resolve_recompute(
    recompute: str | Sequence[str] | None, unit_names: Sequence[str]
) -> dict[str, RecomputeMode]:
    """Find out what the ``recompute`` setting asks for.

    Args:
        recompute: Names of units, ``all`` for all of them (alone it needs no list),
            and ``decode_head`` for the network's own head. The suffix ``:stepwise``
            chooses that mode. A single name overrides ``all``. None recomputes
            nothing.
        unit_names: Names of all units of the backbone, in order.

    Returns:
        The mode of each unit, or ``decode_head``, that is recomputed.

    Raises:
        TypeError: if it is a string other than ``all``.
        ValueError: if a name is unknown (the nearest valid ones are listed), or named
            in both modes.
    """
    if recompute is None:
        return {}
    if isinstance(recompute, str):
        if parsed(recompute)[0] != ALL:
            raise TypeError(
                f'recompute={recompute!r} must be a list: recompute=[{recompute!r}], '
                f'or {ALL!r} for all units.'
            )
        recompute = [recompute]
    special = (ALL, DECODE_HEAD)
    modes: dict[str, RecomputeMode] = {}
    for spelled in map(str, recompute):
        name, mode = parsed(spelled)
        if name not in unit_names and name not in special:
            near = difflib.get_close_matches(
                name, [*unit_names, *special], n=3, cutoff=0.5
            )
            hint = f'Nearest: {", ".join(near)}. ' if near else ''
            raise ValueError(
                f'recompute names {spelled!r}, which is not a unit of this backbone. '
                f'{hint}Allowed: {", ".join((*special, *unit_names))}; each also with '
                '":stepwise" behind it.'
            )
        if modes.setdefault(name, mode) is not mode:
            raise ValueError(
                f'recompute names {name!r} with and without ":stepwise"; keep one.'
            )
    everything = modes.pop(ALL, None)
    if everything is None:
        return modes
    return {**dict.fromkeys(unit_names, everything), **modes}


def run_unit(
    unit: Unit, backbone: nn.Module, state: State, mode: RecomputeMode
) -> State:
    """Run a unit, keeping for backward only what its mode says.

    A mode takes the place of checkpoints that the unit's blocks make themselves.

    Returns:
        What ``unit(backbone, state)`` returns, bit for bit.
    """
    if mode is RecomputeMode.WHOLE:
        return run_recomputed(unit, backbone, state)
    if mode is RecomputeMode.STEPWISE:
        with without_inner_checkpoints(), stepwise_recompute() as recorder:
            state = unit(backbone, state)
            recorder.keep(state.tensors())
        return state
    return unit(backbone, state)


def head_recompute(mode: RecomputeMode) -> contextlib.AbstractContextManager:
    """While active, a head and its losses keep for backward what the mode says.

    A head's backward follows its forward at once, so running it again as a whole would
    not lower the peak. Therefore ``WHOLE`` works stepwise for a head: norms and
    activation functions are computed again, convolutions are not.
    """
    if mode is RecomputeMode.NOTHING:
        return contextlib.nullcontext()
    return stepwise_recompute(keep_products=mode is RecomputeMode.WHOLE)


def run_recomputed(
    unit: Unit, backbone: nn.Module, state: State, policy: Policy | None = None
) -> State:
    """Run a unit, keeping only its input for backward.

    Checkpointing without reentrance also works for the first unit behind a wall, whose
    input needs no gradient. Random draws and autocast are repeated exactly.

    Args:
        unit: May append to ``state.outputs``, but does not see earlier outputs: they
            would stay alive. Of ``state.skips``, those that it pops are kept for
            backward.
        backbone: The backbone that it is a unit of.
        state: What flows in.
        policy: Whose results are kept after all, see `recomputed`.

    Returns:
        What ``unit(backbone, state)`` returns, bit for bit.
    """
    is_single = isinstance(state.x, Tensor)
    maps = (state.x,) if is_single else state.x
    # Tensors must be arguments: what the closure holds would stay alive.
    kept = [dataclasses.replace(state, x=(), outputs=())]

    def run(*maps: Tensor) -> State:
        x = maps[0] if is_single else maps
        return unit(backbone, dataclasses.replace(kept[0], x=x))

    modules = tuple(modules_of(unit, backbone))
    after = recomputed(run, *maps, modules=modules, policy=policy)
    kept[0] = _without_skips_of(after, kept[0])
    return dataclasses.replace(after, outputs=(*state.outputs, *after.outputs))


def _without_skips_of(after: State, before: State) -> State:
    """What a unit needs again: not skips for later units, which would stay alive."""
    passed = {id(skip) for skip in after.skips}
    skips = tuple(() if id(skip) in passed else skip for skip in before.skips)
    return dataclasses.replace(before, skips=skips)


def recomputed(
    function: Callable[..., Any],
    *args: Tensor | None,
    modules: Sequence[nn.Module],
    policy: Policy | None = None,
) -> Any:
    """Call a function, keeping only its arguments for backward.

    Args:
        function: Called with ``args``, now and once more in backward.
        args: The tensors it needs.
        modules: The modules that it runs and whose buffers it may change. Submodules
            must be listed, too.
        policy: Says of each operator whether its result is kept, too; see torch's
            `create_selective_checkpoint_contexts`. None keeps nothing.

    Returns:
        What the function returns.
    """
    if not torch.is_grad_enabled():
        return function(*args)
    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        context_fn=functools.partial(_contexts, modules, policy),
    )


def _contexts(
    modules: Sequence[nn.Module], policy: Policy | None
) -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
    buffers = EarlierBuffers(modules)
    keeping: contextlib.AbstractContextManager = contextlib.nullcontext()
    repeating: contextlib.AbstractContextManager = contextlib.nullcontext()
    if policy is not None:
        keeping, repeating = create_selective_checkpoint_contexts(policy)
    first = _all(buffers.noting_changes(), keeping)
    return first, Renewed(lambda: _all(buffers, repeating))


@contextlib.contextmanager
def _all(*contexts: contextlib.AbstractContextManager) -> Iterator[None]:
    """All contexts; blocks do not checkpoint themselves a second time."""
    with contextlib.ExitStack() as stack:
        for context in (without_inner_checkpoints(), *contexts):
            stack.enter_context(context)
        yield
