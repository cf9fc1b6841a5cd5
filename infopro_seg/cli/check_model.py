"""Finds wrong settings of a model before a run prints or builds anything."""

import traceback
from typing import Any

from mmengine.config import Config
from mmseg.registry import MODELS

from ..models import InfoProEncoderDecoder, weightless
from ..models.weightless import WithoutStorage, undisturbed_randomness
from ..scopes import use_scope_of
from ..settings.config import model_config
from ..settings.localize import is_local

_PACKAGE = __name__.partition('.')[0]


def check_model(cfg: Config) -> None:
    """Build a local model without weights, to find errors in its settings.

    Only errors that this package raises count. Others may be due to the missing
    weights; the run itself shows them.

    Args:
        cfg: Config of a run; not changed.

    Raises:
        ValueError: if a setting is wrong, such as a split that is no unit.
        TypeError: if a setting is of the wrong kind, or the backbone has no units.
        FileNotFoundError: if a plan does not exist.
    """
    if not is_local(cfg.get('model')):
        return
    try:
        build_weightless(cfg)
    except Exception as error:  # networks of users may do anything with their weights
        if _is_ours(error):
            raise


def build_bare(cfg: Config) -> InfoProEncoderDecoder:
    """The model of a local config: without weights, or with new ones if it needs some.

    Args:
        cfg: Not changed. Nothing is loaded.

    Raises:
        Exception: whatever the Runner would meet.
    """
    try:
        return build_weightless(cfg)
    except Exception as error:  # as in `check_model`
        if _is_ours(error):
            raise
    with undisturbed_randomness():
        return MODELS.build(_unloaded(cfg))


def build_weightless(cfg: Config) -> InfoProEncoderDecoder:
    """The model of a local config with shapes but no weights; nothing is loaded."""
    use_scope_of(cfg)
    with undisturbed_randomness(), WithoutStorage():
        return MODELS.build(_unloaded(cfg))


def _unloaded(cfg: Config) -> Any:
    model = model_config(cfg)
    model.pop('pretrained', None)
    return model


def _is_ours(error: Exception) -> bool:
    """Whether this package raised an error, and not code that it called."""
    modules = [
        frame.f_globals.get('__name__', '')
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    # Every call of torch passes through it while there are no weights.
    callers = [name for name in modules if name != weightless.__name__]
    return callers[-1].partition('.')[0] == _PACKAGE
