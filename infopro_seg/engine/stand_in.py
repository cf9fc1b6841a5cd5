"""An object that stands in the place of one of the host's, to add something to a call.

Hooks of a user look at that place, and change what they find there.
"""

from typing import Any


class StandIn:
    """Has the attributes of another object, to read and to write, and is of its class.

    A base class, as what is forgotten in one of several copies is a fault that nobody
    sees. Python looks up special methods on the class: a subclass has those that are
    used in its place.

    Args:
        stands_for: The other object.
        own: Attributes of the stand-in itself, which hide the other's: private ones.
    """

    _stands_for: Any

    def __init__(self, stands_for: Any, **own: Any) -> None:
        vars(self).update(own, _stands_for=stands_for)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == '_stands_for':
            raise AttributeError(name)
        return getattr(self._stands_for, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            vars(self)[name] = value
        else:
            setattr(self._stands_for, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._stands_for, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """For isinstance; ``type`` tells the stand-in."""
        return type(self._stands_for)

    def __repr__(self) -> str:
        return repr(self._stands_for)

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, pickle wants to find the class in __class__.
        return _blank, (type(self),), vars(self).copy()


def stood_for(stand_in: StandIn) -> Any:
    """The object in whose place a stand-in is."""
    return vars(stand_in)['_stands_for']


def _blank(kind: type[StandIn]) -> StandIn:
    return object.__new__(kind)
