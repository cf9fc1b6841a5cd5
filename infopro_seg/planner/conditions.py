"""What a prediction depends on besides batch, crop and precision, as text in a plan.

A run whose conditions are those of its plan needs what was predicted. Another may need
more, so it is counted then.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..settings import LocalSettings, without_cuts, without_end_to_end

_OPTIMIZER = ('optimizer', 'paramwise_cfg', 'constructor', 'clip_grad')
# Settings of a model that need no memory in training.
_FREE = ('type', 'local', 'data_preprocessor', 'pretrained', 'init_cfg', 'test_cfg')


def conditions(model: Mapping, optim_wrapper: Mapping) -> tuple[str, ...]:
    """The conditions of a prediction.

    Args:
        model: Config of a stock or local segmentor.
        optim_wrapper: As in the config of a run.

    Returns:
        Texts such as ``look_ahead=0``. That of the network is a digest.
    """
    local, _ = without_end_to_end(without_cuts(model.get('local')))
    settings = LocalSettings.parse({**local, 'num_modules': 1})
    network = {key: value for key, value in model.items() if key not in _FREE}
    digest = hashlib.sha256(_text(network).encode()).hexdigest()
    optimizer = {k: optim_wrapper[k] for k in _OPTIMIZER if optim_wrapper.get(k)}
    found = {
        'network': digest[:16],
        'head': _text(settings.head),
        'look_ahead': settings.look_ahead,
        'weights': _text(settings.weights),
        'lean_loss': settings.lean_loss,
        'optimizer': _text(optimizer),
    }
    return tuple(f'{name}={value}' for name, value in found.items())


def differing(planned: Sequence[str], given: Sequence[str]) -> list[str]:
    """Names of the conditions that a plan has and a run does not meet."""
    return [text.partition('=')[0] for text in planned if text not in given]


def _text(config: Any) -> str:
    """The same text for equal configs, whether tuples have become lists or not."""
    return json.dumps(config, sort_keys=True, default=str)
