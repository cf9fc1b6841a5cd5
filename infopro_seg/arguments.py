"""What classes that users register can be told, judged by their constructors."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any


def accepted_settings(cls: Any) -> set[str]:
    """Names of all arguments that something registered takes.

    Arguments of a base class count as far as ``**kwargs`` may pass them on to it.

    Args:
        cls: A class or function.
    """
    return {
        name
        for initialiser in _initialisers(cls)
        for name in inspect.signature(initialiser).parameters
    }


def takes(cls: Any, argument: str) -> bool:
    """Whether a class, or a base class that it passes ``**kwargs`` on to, takes it.

    Args:
        cls: A class or function.
        argument: Name.
    """
    return argument in accepted_settings(cls)


def leaves_open(cls: Any, argument: str) -> bool:
    """Whether an argument that nobody asked for can be added without harm.

    A constructor with ``**kwargs`` may set it for its base class itself. Given again,
    it would be there twice.

    Args:
        cls: A class or function.
        argument: Name.
    """
    for initialiser in _initialisers(cls):
        if argument in inspect.signature(initialiser).parameters:
            return True
        if _speaks_of(initialiser, argument):
            return False
    return False


def _initialisers(cls: Any) -> Iterator[Callable]:
    """The constructors that keyword arguments may reach, the class's own first."""
    if not inspect.isclass(cls):
        yield cls
        return
    for base in inspect.getmro(cls):
        if '__init__' not in vars(base):
            continue
        initialiser = vars(base)['__init__']
        yield initialiser
        parameters = inspect.signature(initialiser).parameters.values()
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
            return


def _speaks_of(function: Any, name: str) -> bool:
    """Whether a name is a keyword or a text in the code of a function."""
    code = getattr(inspect.unwrap(function), '__code__', None)
    constants = code.co_consts if code is not None else ()
    # The keywords of a call are a tuple.
    return any(
        constant == name or (isinstance(constant, tuple) and name in constant)
        for constant in constants
    )
