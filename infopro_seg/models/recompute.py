"""Recompute: what a unit computes is forgotten and computed again in backward.

Activation checkpointing inside a local module. It changes memory and time, and nothing
else: losses, gradients and buffers keep every bit.
"""

import contextlib
import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..units import State, Unit

ALL = 'all'
DECODE_HEAD = 'decode_head'


def resolve_recompute(
    recompute: str | Sequence[str] | None, unit_names: Sequence[str]
) -> frozenset[str]:
    """The names that the ``recompute`` setting asks for.

    Args:
        recompute: Names of units, ``all`` for all of them (alone it needs no list),
            and ``decode_head`` for the norms and activations of the network's own
            head. None: nothing.
        unit_names: Names of all units of the backbone, in order.

    Returns:
        Names of units, and ``decode_head`` if it was named.

    Raises:
        TypeError: if it is a string other than ``all``.
        ValueError: if a name is unknown (the nearest valid ones are listed).
    """
    if recompute is None:
        return frozenset()
    if isinstance(recompute, str):
        if recompute != ALL:
            raise TypeError(
                f'recompute={recompute!r} must be a list: recompute=[{recompute!r}], '
                f'or {ALL!r} for all units.'
            )
        recompute = [ALL]
    special = (ALL, DECODE_HEAD)
    for name in recompute:
        if name not in unit_names and name not in special:
            near = difflib.get_close_matches(
                str(name), [*unit_names, *special], n=3, cutoff=0.5
            )
            hint = f'Nearest: {", ".join(near)}. ' if near else ''
            raise ValueError(
                f'recompute names {name!r}, which is not a unit of this backbone. '
                f'{hint}Allowed: {", ".join((*special, *unit_names))}.'
            )
    names = set(recompute)
    if ALL in names:
        names = names - {ALL} | set(unit_names)
    return frozenset(names)


def check_recompute(
    names: frozenset[str], backbone: nn.Module, decode_head: nn.Module
) -> None:
    """Check that the network can be recomputed.

    Args:
        names: See `resolve_recompute`.
        backbone: The network's backbone.
        decode_head: The network's head.

    Raises:
        ValueError: if the backbone's blocks already checkpoint themselves, or if the
            head is named and has nothing to recompute.
    """
    if names and any(getattr(m, 'with_cp', False) for m in backbone.modules()):
        raise ValueError(
            f'recompute={sorted(names)} and with_cp=True of the backbone would both '
            "compute the same blocks again. Set with_cp=False; recompute='all' takes "
            'its place.'
        )
    if DECODE_HEAD in names and not _conv_norm_act_modules(decode_head):
        raise ValueError(
            f'recompute names {DECODE_HEAD!r}, but {type(decode_head).__name__} has no '
            'ConvModule with norm and activation, whose outputs could be recomputed. '
            'Take it out of the list.'
        )


def run_recomputed(unit: Unit, backbone: nn.Module, state: State) -> State:
    """Run a unit, keeping only its input for backward.

    The form without reentrance also covers the first unit behind a wall, whose input
    needs no gradient. Random draws and autocast are repeated as they were.

    Args:
        unit: May append to ``state.outputs``, but sees none of the earlier ones: they
            would stay alive. Maps that it needs again are ``state.skips``.
        backbone: The backbone that it is a unit of.
        state: What flows in.

    Returns:
        What ``unit(backbone, state)`` returns, bit for bit.
    """
    is_single = isinstance(state.x, Tensor)
    maps = (state.x,) if is_single else state.x
    # Tensors must be arguments: whatever is reached in another way stays alive.
    rest = dataclasses.replace(state, x=(), outputs=())

    def run(*maps: Tensor) -> State:
        x = maps[0] if is_single else maps
        return unit(backbone, dataclasses.replace(rest, x=x))

    after = recomputed(run, *maps, modules=tuple(_modules_of(unit, backbone)))
    return dataclasses.replace(after, outputs=(*state.outputs, *after.outputs))


@contextlib.contextmanager
def recomputed_activations(head: nn.Module) -> Iterator[None]:
    """While a head runs, its norm outputs and activations are not kept for backward.

    Kept are inputs and outputs of its convolutions; no convolution is computed again.
    A head's backward follows its forward at once, so recomputing it as a whole would
    leave the peak where it is: everything would be back before the first gradient.

    Args:
        head: Any mmseg decode head. It is as before when the context ends.
    """
    modules = _conv_norm_act_modules(head)
    for module in modules:
        module.forward = functools.partial(_forward_keeping_conv, module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def recomputed(
    function: Callable[..., Any], *args: Tensor | None, modules: Sequence[nn.Module]
) -> Any:
    """Call a function, keeping only its arguments for backward.

    Args:
        function: Called with ``args``, now and again in backward.
        args: The tensors it needs.
        modules: Modules that it runs and whose buffers it may change; a submodule
            must be listed itself.

    Returns:
        What the function returns.
    """
    if not torch.is_grad_enabled():
        return function(*args)
    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        context_fn=functools.partial(_contexts, modules),
    )


def _contexts(
    modules: Sequence[nn.Module],
) -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
    return contextlib.nullcontext(), _EarlierBuffers(modules)


class _EarlierBuffers:
    """Lends modules the buffers that they had when this object was made.

    Without it the second forward would update running statistics again. They cannot
    be left out instead (``track_running_stats = False``): autograd saves them, and
    checkpointing demands the same number of saved tensors. Only modules in training
    mode change their buffers.

    The same object may be entered again: graphs can be differentiated twice.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        self._earlier = [
            (module, name, buffer.clone())
            for module in modules
            if module.training
            for name, buffer in module.named_buffers(recurse=False)
        ]
        self._own = []

    def __enter__(self) -> None:
        self._own = [
            (module, name, getattr(module, name)) for module, name, _ in self._earlier
        ]
        for module, name, buffer in self._earlier:
            setattr(module, name, buffer.clone())

    def __exit__(self, *exception: object) -> None:
        for module, name, buffer in self._own:
            setattr(module, name, buffer)
        self._own = []


def _modules_of(unit: Unit, backbone: nn.Module) -> Iterator[nn.Module]:
    for prefix in unit.owns:
        try:
            part = backbone.get_submodule(prefix)
        except AttributeError:  # a parameter of the backbone itself
            continue
        yield from part.modules()


def _conv_norm_act_modules(head: nn.Module) -> list[ConvModule]:
    return [
        module
        for module in head.modules()
        if type(module) is ConvModule
        and module.order == ('conv', 'norm', 'act')
        and module.with_norm
        and module.with_activation
        and not module.with_explicit_padding
    ]


def _forward_keeping_conv(
    module: ConvModule, x: Tensor, activate: bool = True, norm: bool = True
) -> Tensor:
    if not (activate and norm):
        return ConvModule.forward(module, x, activate, norm)
    return recomputed(
        lambda x: module.activate(module.norm(x)),
        module.conv(x),
        modules=tuple(module.norm.modules()),
    )
