"""Finds wrong settings of a model before a run prints or builds anything."""

import traceback

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from ..models import InfoProEncoderDecoder
from ..models.weightless import WithoutStorage, undisturbed_randomness
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
    except (ValueError, TypeError, KeyError, FileNotFoundError) as error:
        if _is_ours(error):
            raise


def build_weightless(cfg: Config) -> InfoProEncoderDecoder:
    """The model of a local config with shapes but no weights; nothing is loaded."""
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    model = model_config(cfg)
    model.pop('pretrained', None)
    with undisturbed_randomness(), WithoutStorage():
        return MODELS.build(model)


def _is_ours(error: Exception) -> bool:
    """Whether this package raised an error, and not code that it called."""
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return frame.f_globals.get('__name__', '').partition('.')[0] == _PACKAGE
