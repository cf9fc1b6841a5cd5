"""Finds the local model that a runner trains, inside its wrapper if there is one."""

from mmengine.model import is_model_wrapper
from torch import nn

from ..models import InfoProEncoderDecoder


def find_local_model(model: nn.Module) -> InfoProEncoderDecoder | None:
    """The model itself, if it has local modules; None otherwise.

    Args:
        model: The model of a runner, wrapped or not.
    """
    inner = model.module if is_model_wrapper(model) else model
    return inner if isinstance(inner, InfoProEncoderDecoder) else None


def local_model_of(model: nn.Module, user: object) -> InfoProEncoderDecoder:
    """The model itself, for a hook or runner that needs local modules.

    Raises:
        TypeError: if there are none.
    """
    found = find_local_model(model)
    if found is None:
        inner = model.module if is_model_wrapper(model) else model
        raise TypeError(
            f'{type(user).__name__} needs model.type InfoProEncoderDecoder, got '
            f'{type(inner).__name__}. Set the type and local=..., or remove it.'
        )
    return found
