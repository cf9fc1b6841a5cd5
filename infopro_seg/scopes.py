"""Where the host looks up the names of types: its registries are a tree of scopes.

A run looks in the scope that its config names, and from there up to mmengine's own,
which is the root; a config that names none begins at the root. So what this package
registers is known to every config only if the root knows it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.config import Config
from mmengine.registry import Registry, init_default_scope

_Class = TypeVar('_Class', bound=type)
#: The scope of the host's segmentation parts.
MMSEG = 'mmseg'


def register(registry: Registry, *earlier: str) -> Callable[[_Class], _Class]:
    """Register a class so that a config of any scope finds it by its bare name.

    Args:
        registry: One of mmseg's; the class is also registered at the root above it.
            In mmseg's own, it is found as ``mmseg.NAME``, too.
        earlier: Names that it had in earlier versions.

    Returns:
        A decorator that returns the class itself.
    """

    def registered(cls: _Class) -> _Class:
        for place in (registry, registry.root):
            place.register_module([cls.__name__, *earlier], module=cls)
        return cls

    return registered


def in_mmseg(name: str) -> str:
    """The name of a part of mmseg, as every scope knows it."""
    return f'{MMSEG}.{name}'


def scope_of(cfg: Config) -> str | None:
    """The scope in which a Runner looks up the names in a config.

    Args:
        cfg: A whole config.

    Returns:
        ``default_scope``, or the Runner's default, mmengine's. None, if the config says
        so, leaves the scope as it is.
    """
    scope: str | None = cfg.get('default_scope', 'mmengine')
    return scope


def use_scope_of(cfg: Config) -> None:
    """Look up names as the Runner of this config will, until another scope is set."""
    scope = scope_of(cfg)
    if scope is not None:
        init_default_scope(scope)


def class_of(registry: Registry, kind: Any, scope: str | None = None) -> Any:
    """What a ``type`` stands for.

    Args:
        registry: Of the kind of part, such as mmseg's of models.
        kind: A name, with or without scope, or a class.
        scope: Where a bare name is looked up; by default in the scope in use.

    Returns:
        The class, or None for a name that is not registered.
    """
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(scope) as current:
        return current.get(kind)
