"""How a unit or the decode head is recomputed, and how configs and plans spell it."""

import enum

DECODE_HEAD = 'decode_head'
_STEPWISE_SUFFIX = ':stepwise'


class RecomputeMode(enum.IntEnum):
    """What is kept for backward, and what is computed again.

    * ``NOTHING``: nothing is computed again; everything is kept.
    * ``WHOLE``: a unit keeps its input and runs once more as a whole in backward. The
      decode head keeps inputs and outputs of convolutions.
    * ``STEPWISE``: inputs of convolutions are kept; each other tensor is computed again
      alone, when backward asks for it. Compared with ``WHOLE``, more is kept while
      other units run, and less is alive during this unit's backward.
    """

    NOTHING = 0
    WHOLE = 1
    STEPWISE = 2

    def spelled(self, name: str) -> str:
        """The spelling in ``recompute=[...]``: ``layer4.0``, ``layer4.0:stepwise``."""
        return name + _STEPWISE_SUFFIX if self is RecomputeMode.STEPWISE else name


def parsed(spelled: str) -> tuple[str, RecomputeMode]:
    """A name and its mode; the inverse of `RecomputeMode.spelled`."""
    name = spelled.removesuffix(_STEPWISE_SUFFIX)
    is_whole = name == spelled
    return name, RecomputeMode.WHOLE if is_whole else RecomputeMode.STEPWISE
