"""Initial weights that all methods of a study share.

A method with local heads or without an auxiliary head draws other random numbers than
the stock network while it is built, so that the same seed gives it another network.
Here every part of the stock network is initialised from the seed and its own name, and
runs start from the file.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import Tensor

from ..checkpoints.files import write_checkpoint
from ..checkpoints.loading import weights_only_loading
from ..engine.check_weights_hook import check_pretrained
from ..engine.quiet import quiet_log
from ..engine.random_state import random_numbers_from
from ..scopes import use_scope_of
from ..settings.config import as_list, type_name
from ..settings.localize import stock_model_config
from .job import Job, Places, digest_of, method_config


def initial_weights(
    model: Mapping[str, Any], seed: int, pretrained: str | None = None
) -> dict[str, Tensor]:
    """Weights of a stock network; those of a part depend on no other part.

    Random generators are left as they were.

    Args:
        model: Config of a stock or local segmentor.
        seed: 0 or more.
        pretrained: File for the backbone; None for random weights.

    Returns:
        The state dict, under the names of stock mmseg.

    Raises:
        ValueError: if no weight of the file has a name of the backbone, or if it
            cannot be read as weights alone.
    """
    stock = stock_model_config(model)
    stock['pretrained'] = None
    backbone = stock['backbone']
    if pretrained is not None:
        backbone['init_cfg'] = {'type': 'Pretrained', 'checkpoint': pretrained}
    elif _loads(backbone.get('init_cfg')):
        backbone.pop('init_cfg')
    with quiet_log(), weights_only_loading(), random_numbers_from([seed]):
        network = MODELS.build(ConfigDict(stock))
        check_pretrained(network)
        for name, part in network.named_children():
            if hasattr(part, 'init_weights'):
                with random_numbers_from([seed, zlib.crc32(name.encode())]):
                    part.init_weights()
    return network.state_dict()


def write_initial_weights(job: Job, places: Places) -> Path:
    """The file of initial weights of a run; written if there is none yet.

    Runs of one seed share it, where their stock networks are the same.
    """
    cfg = method_config(job.row)
    stock = stock_model_config(cfg.model.to_dict())
    # However the type is written, it is the same network.
    named = {**stock, 'type': type_name(stock)}
    key = digest_of([named, job.settings['weights_digest']])
    path = places.out / 'initial_weights' / f'{key}_seed{job.seed}.pth'
    if not path.exists():
        use_scope_of(cfg)
        weights = initial_weights(stock, job.seed, places.weights)
        write_checkpoint({'state_dict': weights, 'meta': {}}, path, force=False)
    return path


def _loads(init_cfg: Any) -> bool:
    return 'Pretrained' in map(type_name, as_list(init_cfg))
