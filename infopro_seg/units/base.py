"""Units: the links of the chain that a segmentation network is cut from.

A backbone family describes itself once, as a tuple of units, and everything else (local
modules, planner, pipeline) works on that description. No backbone is edited, copied
or re-parented. Nothing here knows about losses, heads or devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor, nn

from .state import State

Describe = TypeVar('Describe', bound=Callable[[Any], 'tuple[Unit, ...]'])
Run = Callable[[Any, State], State]

# Descriptions of classes from packages that may be absent, by full class name.
_OPTIONAL: dict[str, Callable[[Any], 'tuple[Unit, ...]']] = {}


@dataclasses.dataclass(frozen=True)
class Unit:
    """One link of the chain: plain data that names what it runs.

    A unit holds no module. It gets the backbone at every call, so that it stays valid
    when the backbone is copied (EMA) and can be pickled.

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
        return parameters_of((self,), backbone)


def parameters_of(units: Iterable[Unit], backbone: nn.Module) -> list[nn.Parameter]:
    """The parameters of the backbone that some units train, in the backbone's order."""
    owned = {name for unit in units for name in unit.owns}
    prefixes = tuple(f'{name}.' for name in owned)
    return [
        parameter
        for name, parameter in backbone.named_parameters()
        if name in owned or name.startswith(prefixes)
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
    for cls in type(backbone).__mro__:
        describe = _OPTIONAL.get(f'{cls.__module__}.{cls.__qualname__}')
        if describe is not None:
            return _checked(cls, describe, backbone)
    raise TypeError(unsupported(type(backbone)))


def describes(*classes: type) -> Callable[[Describe], Describe]:
    """Register a function as the description of backbone classes.

    It serves subclasses, too, as long as they keep the ``forward`` of the parent.

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


def describes_optional(*class_names: str) -> Callable[[Describe], Describe]:
    """Register a description of classes from a package that may be absent.

    Like `describes`, but nothing is imported: the class of a backbone is recognised by
    its name.

    Args:
        class_names: Full names, such as ``timm.models.resnet.ResNet``.

    Returns:
        A decorator for a function ``backbone -> tuple[Unit, ...]``.
    """

    def decorate(describe: Describe) -> Describe:
        _OPTIONAL.update(dict.fromkeys(class_names, describe))
        return describe

    return decorate


def supported_backbones() -> tuple[str, ...]:
    """Names of the classes that `units_of` knows, sorted."""
    names = {cls.__name__ for cls in units_of.registry if cls is not object}
    optional = {
        f'{name.split(".")[-1]} (package {name.split(".")[0]})' for name in _OPTIONAL
    }
    return tuple(sorted(names | optional))


def fold(backbone: nn.Module, image: Tensor) -> Any:
    """Run a backbone unit by unit; equals ``backbone(image)`` bit for bit."""
    state = State(image)
    for unit in units_of(backbone):
        state = unit(backbone, state)
    return state.result()


def run_submodule(
    backbone: nn.Module, state: State, *, path: str, emits: bool = False
) -> State:
    """Run one submodule of the backbone on ``x`` of the state."""
    return state.step(backbone.get_submodule(path)(state.x), emits=emits)


def submodule_unit(path: str, *, emits: bool = False) -> Unit:
    """A unit that is exactly one submodule; ``emits`` makes it a stage output."""
    return Unit(path, functools.partial(run_submodule, path=path, emits=emits))


def _checked(cls: Any, describe: Describe, backbone: nn.Module) -> tuple[Unit, ...]:
    if type(backbone).forward is not cls.forward:
        raise TypeError(
            f'{type(backbone).__name__} inherits from {cls.__name__} but has its own '
            f'forward, so the units of {cls.__name__} would not run it faithfully. '
            + unsupported(type(backbone))
        )
    return describe(backbone)


def unsupported(cls: type) -> str:
    """The message that refuses a backbone class: what is supported, what to do."""
    return (
        f'no units are known for backbone {cls.__name__}. Supported: '
        f'{", ".join(supported_backbones())}. To register your own:\n'
        '    from infopro_seg.units import describes, submodule_unit\n'
        f'    @describes({cls.__name__})\n'
        "    def units(backbone): return (submodule_unit('stem'), "
        "submodule_unit('layer1', emits=True), ...)"
    )
