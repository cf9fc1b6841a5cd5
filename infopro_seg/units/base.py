"""Units: the links of the chain that a segmentation network is cut from.

A backbone family describes itself once, as a tuple of units, and everything else (local
modules, planner, pipeline) works on that description. No backbone is edited, copied
or re-parented. Nothing here knows about losses, heads or devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Maps = Tensor | tuple[Tensor, ...]
Describe = TypeVar('Describe', bound=Callable[[Any], 'tuple[Unit, ...]'])


@dataclasses.dataclass(frozen=True)
class State:
    """What flows from one unit to the next.

    Args:
        x: The running value: an image or map (N, C, h, w), tokens (N, L, C), or a
            tuple of maps for networks with several branches.
        grid: Rows and columns of the token grid if ``x`` is tokens, else None.
        outputs: The stage outputs so far, in the order of the backbone's own
            output. Behind a wall, an output that nobody reads is None.
        is_bare: Whether the backbone returns its only output without a tuple.
    """

    x: Maps
    grid: tuple[int, int] | None = None
    outputs: tuple[Tensor | None, ...] = ()
    is_bare: bool = False

    def step(self, x: Maps, *, emits: bool = False) -> 'State':
        """The state after a unit gave ``x``; ``emits`` makes it a stage output."""
        outputs = (*self.outputs, x) if emits else self.outputs
        return dataclasses.replace(self, x=x, outputs=outputs)

    def detach(self, reads: Collection[int] | None = None) -> 'State':
        """The wall: the same values without their history.

        Args:
            reads: Indices of the outputs that are read later. Others are dropped, so
                that their memory is freed. None keeps all.

        Returns:
            A state whose tensors share storage with this one and need no gradient.
        """
        return dataclasses.replace(
            self,
            x=_detach(self.x),
            outputs=tuple(
                None
                if out is None or (reads is not None and i not in reads)
                else out.detach()
                for i, out in enumerate(self.outputs)
            ),
        )

    def feature_map(self) -> Tensor:
        """A view of ``x`` as one map, for a local head.

        Returns:
            (N, C, h, w), with gradient. Tokens are laid out on their grid; several
            branches are resized to the finest one and concatenated, so that a loss on
            the map reaches every branch.
        """
        if isinstance(self.x, Tensor):
            return self.x if self.grid is None else _on_grid(self.x, self.grid)
        finest = max(self.x, key=lambda branch: branch.shape[-2] * branch.shape[-1])
        size = finest.shape[-2:]
        return torch.cat(
            [
                branch
                if branch.shape[-2:] == size
                else functional.interpolate(
                    branch, size=size, mode='bilinear', align_corners=False
                )
                for branch in self.x
            ],
            dim=1,
        )

    @property
    def requires_grad(self) -> bool:
        """Whether any part of ``x`` has a history to send gradients into."""
        maps = (self.x,) if isinstance(self.x, Tensor) else self.x
        return any(branch.requires_grad for branch in maps)

    def result(self) -> Maps:
        """What the backbone's own ``forward`` would have returned."""
        return self.outputs[0] if self.is_bare else self.outputs


Run = Callable[[nn.Module, State], State]


@dataclasses.dataclass(frozen=True)
class Unit:
    """One link of the chain: plain data that names what it runs.

    A unit holds no module. It is given the backbone at every call, so that it stays
    right after the backbone is copied (EMA) and can be pickled.

    Args:
        name: Spelt as in the state dict, such as ``layer3.12``.
        run: ``run(backbone, state) -> state``; a function of a module, or a
            `functools.partial` of one.
        owns: Prefixes of the parameters that the unit trains, relative to the
            backbone; by default its name.
    """

    name: str
    run: Run
    owns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.owns:
            object.__setattr__(self, 'owns', (self.name,))

    def __call__(self, backbone: nn.Module, state: State) -> State:
        """Run the unit of this backbone on a state."""
        return self.run(backbone, state)

    def parameters(self, backbone: nn.Module) -> list[nn.Parameter]:
        """The parameters of the backbone that this unit trains."""
        prefixes = tuple(f'{prefix}.' for prefix in self.owns)
        return [
            parameter
            for name, parameter in backbone.named_parameters()
            if name in self.owns or name.startswith(prefixes)
        ]


@functools.singledispatch
def units_of(backbone: nn.Module) -> tuple[Unit, ...]:
    """Describe a backbone as a chain of units.

    Folding all units over an image gives the backbone's own output, bit for bit.

    Args:
        backbone: A built backbone of a supported family.

    Returns:
        The units, in the order they run.

    Raises:
        TypeError: if the family is unknown, or if the backbone's class has a
            ``forward`` of its own that its parent's description does not fit.
    """
    raise TypeError(_unsupported(type(backbone)))


def describes(*classes: type) -> Callable[[Describe], Describe]:
    """Register a function as the description of backbone classes.

    A subclass is served too, as long as it keeps the ``forward`` of its parent.

    Args:
        classes: Backbone classes that share one way of running.

    Returns:
        A decorator for a function ``backbone -> tuple[Unit, ...]``.
    """

    def decorate(describe: Describe) -> Describe:
        for cls in classes:
            units_of.register(cls, functools.partial(_checked, cls, describe))
        return describe

    return decorate


def supported_backbones() -> tuple[str, ...]:
    """Names of the classes that `units_of` knows, sorted."""
    return tuple(sorted(c.__name__ for c in units_of.registry if c is not object))


def fold(backbone: nn.Module, image: Tensor) -> Any:
    """Run a backbone unit by unit; equals ``backbone(image)`` bit for bit."""
    state = State(image)
    for unit in units_of(backbone):
        state = unit(backbone, state)
    return state.result()


def run_submodule(
    backbone: nn.Module, state: State, *, path: str, emits: bool = False
) -> State:
    """Run one submodule of the backbone on the running value."""
    return state.step(backbone.get_submodule(path)(state.x), emits=emits)


def submodule_unit(path: str, *, emits: bool = False) -> Unit:
    """A unit that is exactly one submodule; ``emits`` makes it a stage output."""
    return Unit(path, functools.partial(run_submodule, path=path, emits=emits))


def _checked(cls: type, describe: Describe, backbone: nn.Module) -> tuple[Unit, ...]:
    if type(backbone).forward is not cls.forward:
        raise TypeError(
            f'{type(backbone).__name__} inherits from {cls.__name__} but has its own '
            f'forward, so the units of {cls.__name__} would not run it faithfully. '
            + _unsupported(type(backbone))
        )
    return describe(backbone)


def _unsupported(cls: type) -> str:
    return (
        f'no units are known for backbone {cls.__name__}. Supported: '
        f'{", ".join(supported_backbones())}. To register your own:\n'
        '    from infopro_seg.units import describes, submodule_unit\n'
        f'    @describes({cls.__name__})\n'
        "    def units(backbone): return (submodule_unit('stem'), "
        "submodule_unit('layer1', emits=True), ...)"
    )


def _detach(x: Maps) -> Maps:
    return x.detach() if isinstance(x, Tensor) else tuple(b.detach() for b in x)


def _on_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (N, L, C) as a map (N, C, rows, columns); leading extra tokens dropped."""
    rows, columns = grid
    tokens = tokens[:, tokens.shape[1] - rows * columns :]
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)
