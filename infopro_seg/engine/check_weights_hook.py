"""A hook that refuses checkpoints of a network other than that of the config."""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseModule, BaseTTAModel, PretrainedInit, is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import HOOKS
from torch import Tensor, nn

from ..checkpoints.files import LOCAL_PREFIX
from ..compat import copy_versions, is_resumed, is_training
from ..scopes import register

#: What a network does not need to predict.
TRAINING_ONLY = (LOCAL_PREFIX, 'auxiliary_head.')


@register(HOOKS)
class CheckWeightsHook(Hook):
    """Stop if the weights of a checkpoint do not fit the model.

    The host only logs a mismatch and continues with random weights. Weights fit if the
    model's own ``load_state_dict`` takes them.

    - Shapes must always fit (a head for another number of classes does not). Only local
      heads of other shapes are reinitialised instead, unless the run is resumed.
    - For a test, no weight that prediction needs may be missing and none may be left
      over. To resume, this holds for all weights.
    - Training may start from some of the weights, but at least one name must fit. The
      same holds for ``init_cfg=dict(type='Pretrained')``.

    Args:
        drop: Prefixes of weights to leave out, such as ``decode_head.conv_seg`` to
            start from a checkpoint with other classes.
    """

    def __init__(self, drop: tuple[str, ...] | list[str] = ()) -> None:
        self._drop = tuple(drop)

    def before_run(self, runner: Runner) -> None:
        """Compare the names of pretrained weights with those of the parts they are for.

        Raises:
            ValueError: if no name fits.
        """
        if is_resumed(runner) or not is_training(runner):
            return
        check_pretrained(_unwrapped(runner.model))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare weights and model; delete weights to drop from the checkpoint.

        Raises:
            ValueError: if the weights do not fit; names some of them, with both shapes.
        """
        model = _unwrapped(runner.model)
        state_dict = checkpoint.get('state_dict', checkpoint)
        resumes = is_resumed(runner)
        starts = not resumes and is_training(runner)
        _delete(state_dict, self._drop)
        if not resumes:
            _leave_out_other_local_heads(runner, model, state_dict)
        given = _as_loaded(state_dict)
        _require_common_names(given, model.state_dict(), checkpoint)
        problems, missing, left_over = _compare(model, given)
        if starts:
            _tell_unused_parts(runner, given, left_over)
        else:
            unneeded = self._drop if resumes else (*self._drop, *TRAINING_ONLY)
            problems += _unfit(model, missing, left_over, unneeded)
        _refuse(
            model,
            problems,
            "; to continue with other classes, set drop=['decode_head.conv_seg', ...] "
            'of CheckWeightsHook',
        )


def load_weights(
    model: nn.Module, checkpoint: Mapping, unneeded: tuple[str, ...] = TRAINING_ONLY
) -> None:
    """Load a checkpoint into a network, which must be that of the checkpoint.

    Args:
        model: A segmentor.
        checkpoint: With ``state_dict``.
        unneeded: Prefixes of weights that may be missing or left over.

    Raises:
        ValueError: if the weights do not fit; names some of them.
    """
    given = _as_loaded(checkpoint['state_dict'])
    _require_common_names(given, model.state_dict(), checkpoint)
    problems, missing, left_over = _compare(model, given)
    _refuse(model, problems + _unfit(model, missing, left_over, unneeded))


def check_pretrained(model: nn.Module) -> None:
    """Compare the names of pretrained weights with those of the parts they are for.

    Raises:
        ValueError: if no name fits.
    """
    for name, module in model.named_modules():
        for init_cfg in _pretrained(module):
            _check_pretrained(name, module, init_cfg)


def _unwrapped(model: nn.Module) -> nn.Module:
    # Test-time augmentation is a wrapper that mmengine does not list as one.
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    return model


def _as_loaded(state_dict: Mapping) -> OrderedDict:
    """The weights under the names by which the host loads them."""
    given = OrderedDict(
        (re.sub(r'^module\.', '', name), value)
        for name, value in state_dict.items()
        if isinstance(value, Tensor)
    )
    copy_versions(state_dict, given)
    return given


def _compare(
    model: nn.Module, given: OrderedDict
) -> tuple[list[str], list[str], list[str]]:
    """Load weights as the host will; returns wrong shapes, missing and left over."""
    try:
        missing, left_over = model.load_state_dict(given, strict=False)
    except RuntimeError as error:
        own = model.state_dict()
        problems = [
            f'{name} is {tuple(given[name].shape)} in the checkpoint and '
            f'{tuple(own[name].shape)} in the model of the config'
            for name in own
            if name in given and given[name].shape != own[name].shape
        ]
        return problems or [str(error)], [], []
    return [], missing, left_over


def _unfit(
    model: nn.Module, missing: list[str], left_over: list[str], unneeded: tuple
) -> list[str]:
    parts = {name.partition('.')[0] for name in model.state_dict()}
    # The state of the optimizer covers the local heads of a run.
    parts.add(LOCAL_PREFIX.rstrip('.'))
    return [
        f'{name} is missing in the checkpoint'
        for name in missing
        if not name.startswith(unneeded)
    ] + [
        f'{name} is in the checkpoint and not in the model of the config'
        for name in left_over
        if name.partition('.')[0] in parts and not name.startswith(unneeded)
    ]


def _refuse(model: nn.Module, problems: list[str], advice: str = '') -> None:
    if problems:
        more = f'; and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise ValueError(
            'checkpoint and config do not belong together: '
            f'{"; ".join(problems[:3])}{more}. The config has num_classes='
            f'{_num_classes(model)}. Pass the config of the checkpoint{advice}.'
        )


def _require_common_names(given: Mapping, own: Mapping, checkpoint: Mapping) -> None:
    if any(name in own for name in given):
        return
    nested = [
        key
        for key, value in checkpoint.items()
        if isinstance(value, Mapping)
        and key != 'state_dict'
        and any(isinstance(v, Tensor) for v in value.values())
    ]
    where = f' It keeps tensors under {", ".join(map(repr, nested))}.' if nested else ''
    raise ValueError(
        f'no weight of the checkpoint has a name of the model: it has {_first(given)}, '
        f'the model {_first(own)}.{where} Nothing would be loaded. Save them as '
        "dict(state_dict=...) under the model's names; weights of a backbone alone go "
        "to model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)."
    )


def _tell_unused_parts(runner: Runner, given: Mapping, left_over: list[str]) -> None:
    """Warn about parts of the network for which no weight is used."""
    own_parts = {name for name, _ in _unwrapped(runner.model).named_children()}
    parts = {name.partition('.')[0] for name in given} & own_parts
    unused = set(left_over)
    for part in sorted(parts):
        names = [name for name in given if name.startswith(f'{part}.')]
        if unused.issuperset(names):
            runner.logger.log(
                logging.WARNING,
                f'none of the {len(names)} weights of {part} in the checkpoint has a '
                f'name of the model ({_first(names)}); {part} starts as initialised.',
            )


def _leave_out_other_local_heads(
    runner: Runner, model: nn.Module, state_dict: dict
) -> None:
    own = model.state_dict()
    given = _as_loaded(state_dict)
    other = {
        '.'.join(name.split('.')[:2]) + '.'
        for name in given
        if name.startswith(LOCAL_PREFIX)
        and name in own
        and own[name].shape != given[name].shape
    }
    if other:
        _delete(state_dict, tuple(other))
        heads = ', '.join(sorted(head.rstrip('.') for head in other))
        runner.logger.log(
            logging.WARNING,
            f'{heads} of the checkpoint have other shapes than those of the config '
            '(other cuts); they are left out.',
        )


def _delete(state_dict: dict, prefixes: tuple[str, ...]) -> None:
    for name in list(state_dict):
        if prefixes and name.removeprefix('module.').startswith(prefixes):
            del state_dict[name]


def _pretrained(module: nn.Module) -> list[Mapping]:
    """The settings of files from which the host initialises a module."""
    if not isinstance(module, BaseModule) or not module.init_cfg:
        return []
    # A network that overrides it may read files of its own kind.
    if type(module).init_weights is not BaseModule.init_weights:
        return []
    init_cfg = module.init_cfg
    return [
        cfg
        for cfg in (init_cfg if isinstance(init_cfg, list | tuple) else [init_cfg])
        if cfg['type'] in ('Pretrained', PretrainedInit)
    ]


def _check_pretrained(part: str, module: nn.Module, init_cfg: Mapping) -> None:
    path, prefix = init_cfg['checkpoint'], init_cfg.get('prefix')
    loaded: Any = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    loaded = loaded.get('state_dict', loaded)
    own = module.state_dict()
    # With a prefix the host takes names as they are.
    begin = f'{prefix.rstrip(".")}.' if prefix else ''
    given = loaded if prefix else _as_loaded(loaded)
    if not any(begin + name in given for name in own):
        raise ValueError(
            f'no weight of {path} has a name of model.{part}, which is to start from '
            f'it (init_cfg): it has {_first(loaded)}, the model {begin}{_first(own)}. '
            'Nothing would be loaded. Of a whole network, init_cfg takes one part with '
            "prefix='backbone.'."
        )


def _first(names: Iterable[str]) -> str:
    return ', '.join([*names][:3]) + ', ...'


def _num_classes(model: nn.Module) -> int | None:
    # EncoderDecoder and cascades keep that of their (last) decode head.
    return getattr(model, 'num_classes', None)
