"""Which process of a run this is, before they are connected."""

import os

from mmengine.config import Config


def is_first_process(cfg: Config) -> bool:
    """Whether this process speaks and checks for all of a run.

    Without a launcher a run has one process, whatever RANK says: a cluster may set it
    in the environment of every container.

    Args:
        cfg: Config of a run; ``launcher`` is that of the Runner.
    """
    if (cfg.get('launcher') or 'none') == 'none':
        return True
    return int(os.environ.get('RANK', 0)) == 0
