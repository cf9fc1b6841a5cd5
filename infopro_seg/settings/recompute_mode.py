"""How a unit or the decode head is recomputed, and how configs and plans spell it."""

import enum

DECODE_HEAD = 'decode_head'
_STEPWISE_SUFFIX = ':stepwise'


class RecomputeMode(enum.IntEnum):
    """What is kept for backward, and what is computed again.

    * ``NOTHING``: all is kept.
    * ``WHOLE``: of a unit, its input is kept; in backward it runs once more as a
      whole. Of the decode head, inputs and outputs of convolutions are kept.
    * ``STEPWISE``: inputs of convolutions are kept; each other tensor comes back alone
      when backward asks for it. More is kept while other units run, and less is alive
      while this one's backward does.
    """

    NOTHING = 0
    WHOLE = 1
    STEPWISE = 2

    def spelled(self, name: str) -> str:
        """How ``recompute=[...]`` spells it: ``layer4.0``, ``layer4.0:stepwise``."""
        return name + _STEPWISE_SUFFIX if self is RecomputeMode.STEPWISE else name


def parsed(spelled: str) -> tuple[str, RecomputeMode]:
    """A name and its mode; the reverse of `RecomputeMode.spelled`."""
    name = spelled.removesuffix(_STEPWISE_SUFFIX)
    is_whole = name == spelled
    return name, RecomputeMode.WHOLE if is_whole else RecomputeMode.STEPWISE
