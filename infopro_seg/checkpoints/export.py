"""Exports a trained local model as weights and config for stock mmsegmentation.

The keys are those of stock mmseg already, so no local model is built. Local heads are
left out, and what this package added to the config is removed.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.fileio import load
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import Registry
from mmseg import registry as mmseg_registries
from mmseg.registry import MODELS
from torch import nn

from ..compat import config_dict
from ..models.probe import image_sizes, input_channels
from ..scopes import MMSEG, scope_of, use_scope_of
from ..settings.config import (
    as_list,
    crop_size_of,
    model_config,
    read_config,
    type_name,
)
from ..settings.localize import stock_model_config
from .files import stock_state_dict, write_checkpoint
from .loading import last_checkpoint_of, load_anywhere, resumable_folders

_PACKAGE = __name__.partition('.')[0]
# Sizes to predict besides those of the config: a quick one first, at the end one that
# is large enough for pooling windows of 49 pixels at stride 8.
_SMALL, _LARGE = (128, 128), (512, 512)
# Types of a local run, and the host's own that they replace.
_STOCK_NAMES = {
    'SafeCheckpointHook': 'CheckpointHook',
    'SeededSampler': 'InfiniteSampler',
}


def export(
    cfg: Config,
    checkpoint_path: str | Path,
    out: str | Path,
    *,
    force: bool = False,
    trust_pickle: bool = False,
) -> str:
    """Write the stock checkpoint and, beside it, the whole stock config.

    Before anything is written, the weights are loaded strictly into the stock
    segmentor. It then predicts an image, if it takes one of the sizes that the config
    names; the text says if it does not.

    Args:
        cfg: The config that the checkpoint was trained with; not changed.
        checkpoint_path: The trained checkpoint.
        out: File to write; the config gets the same name with ``.py``.
        force: Overwrite existing files.
        trust_pickle: See `read_checkpoint`.

    Returns:
        What was done, as text for the user.

    Raises:
        FileExistsError: if a file exists and ``force`` is False.
        ValueError: if checkpoint and config do not belong together, or if ``out`` ends
            in ``.py``.
    """
    out = Path(out)
    config_out = _config_beside(out, force=force)
    checkpoint = load_anywhere(checkpoint_path, trust_pickle=trust_pickle)
    weights = stock_state_dict(checkpoint['state_dict'])
    stock_config = stock_run_config(cfg)
    stock = _build(stock_config)
    _load(stock, weights, str(checkpoint_path))
    untried = _predict(stock, crop_size_of(cfg))
    meta = checkpoint.get('meta', {})
    kept = {k: meta[k] for k in ('dataset_meta', 'iter', 'epoch', 'seed') if k in meta}
    write_checkpoint({'meta': kept, 'state_dict': weights}, out, force=force)
    stock_config.dump(config_out)
    removed = len(checkpoint['state_dict']) - len(weights)
    lines = [
        f'wrote {out}: {len(weights)} tensors, {removed} of local heads left out; a '
        f'stock {type_name(stock_config.model)} loads it strictly.',
        f'wrote {config_out}: its config, with data, pipelines and evaluators.',
    ]
    if untried is not None:
        lines.append(untried)
    if needs_package(stock_config):
        lines.append(
            f'It imports {_PACKAGE} for: {", ".join(_own_types(stock_config))}.'
        )
    return '\n'.join(lines)


def _config_beside(out: Path, *, force: bool) -> Path:
    """Where the config goes; checks that both files may be written."""
    config_out = out.with_suffix('.py')
    if config_out == out:
        raise ValueError(
            f'{out}: name the checkpoint, such as {out.with_suffix(".pth")}'
        )
    for path in (out, config_out):
        if path.exists() and not force:
            raise FileExistsError(f'{path} exists; pass --force to overwrite it.')
    return config_out


def stock_run_config(cfg: Config) -> Config:
    """A run's config without local modules and without what this package added.

    Args:
        cfg: Config of a local or stock run; not changed.

    Returns:
        A config that stock mmsegmentation runs. It imports this package only if it
        needs other parts of it, such as a data set.
    """
    stock = copy.deepcopy(cfg)
    # `mmseg.apis.init_model` builds the model without a top-level preprocessor.
    stock.model = ConfigDict(stock_model_config(model_config(stock)))
    if scope_of(stock) == MMSEG:
        # It also compares the type with the bare name.
        stock.model.type = type_name(stock.model)
    hooks = [hook for hook in as_list(stock.get('custom_hooks')) if not _is_own(hook)]
    if hooks:
        stock.custom_hooks = hooks
    else:
        stock.pop('custom_hooks', None)
    _rename_types(config_dict(stock))
    for key in ('resume', 'load_from', 'work_dir', 'launcher', 'total_batch_size'):
        stock.pop(key, None)
    imports = as_list((stock.get('custom_imports') or {}).get('imports'))
    if _PACKAGE in imports and not needs_package(stock):
        imports.remove(_PACKAGE)
        if imports:
            stock.custom_imports.imports = imports
        else:
            stock.pop('custom_imports')
    return stock


def needs_package(cfg: Config) -> bool:
    """Whether a config names anything that this package registers."""
    return bool(_own_types(cfg))


def read_trained_config(source: str) -> Config:
    """The config of a run.

    Args:
        source: Its config file, ``mmseg::NAME``, or its work dir, which holds the
            config of the last run.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not Path(source).is_dir():
        return read_config(source)
    paths = (path for path in Path(source).iterdir() if _is_config(path))
    configs = sorted(paths, key=lambda path: path.stat().st_mtime)
    if not configs:
        raise FileNotFoundError(
            f'{source} has no config (*.py), so it is no work dir of a run; give the '
            'config file.'
        )
    return read_config(configs[-1])


def _is_config(path: Path) -> bool:
    """Whether a file in a work dir is the config of a run, not a table of scores."""
    if path.suffix in ('.json', '.yaml', '.yml'):
        content = load(path)
        return isinstance(content, Mapping) and 'model' in content
    return path.suffix == '.py'


def find_checkpoint(
    cfg: Config, source: str, checkpoint: str | None, *, trust_pickle: bool = False
) -> str | Path:
    """The checkpoint to export.

    Args:
        cfg: Config of the run, which says where it keeps its checkpoints.
        source: Config file or work dir of the run.
        checkpoint: Its path, its name in the work dir, or a name with a prefix that the
            host knows; None for the last one of the run.
        trust_pickle: See `read_checkpoint`.

    Raises:
        FileNotFoundError: if there is none.
    """
    folder = Path(source)
    if checkpoint is not None:
        inside = folder / checkpoint
        return inside if folder.is_dir() and inside.is_file() else checkpoint
    if not folder.is_dir():
        raise FileNotFoundError(
            f'which checkpoint? Give it after {source}, or give the work dir of the '
            'run instead of the config.'
        )
    run = copy.deepcopy(cfg)
    run.work_dir = source
    last, problems = last_checkpoint_of(run, trust_pickle=trust_pickle)
    if last is None:
        raise FileNotFoundError(
            f'{", ".join(resumable_folders(run))} has no checkpoint that can be read. '
            + ' '.join(problems)
        )
    return last


def _build(cfg: Config) -> nn.Module:
    use_scope_of(cfg)
    model = model_config(cfg)
    # The checkpoint has all weights: nothing need be downloaded.
    model.pop('pretrained', None)
    network = revert_sync_batchnorm(MODELS.build(model))
    network.eval()
    return network


def _load(network: nn.Module, weights: dict, what: str) -> None:
    own = network.state_dict()
    problems = {
        'missing keys': [key for key in own if key not in weights],
        'unexpected keys': [key for key in weights if key not in own],
        'other shapes': [
            f'{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ],
    }
    if any(problems.values()):
        raise ValueError(
            f'{what}: checkpoint and config do not belong together ('
            + '; '.join(f'{kind}: {_some(keys)}' for kind, keys in problems.items())
            + '). Pass the config that the checkpoint was trained with.'
        )
    network.load_state_dict(weights)


def _some(keys: list[str]) -> str:
    more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
    return (', '.join(keys[:3]) + more) if keys else 'none'


def _predict(network: Any, crop_size: tuple[int, int] | None) -> str | None:
    """Run the exported network once, on the first size that it takes.

    The weights fit already, so a network that no image passes is not refused: it may
    need more than images, or a size that nothing here names.

    Returns:
        A sentence if no size passed, else None.
    """
    sizes = image_sizes(network, crop_size, _LARGE, usual=_SMALL)
    errors = []
    for size in sizes:
        try:
            _predict_size(network, size, sizes)
        except Exception as error:  # networks refuse images in any way
            errors.append(error)
        else:
            return None
    tried = ', '.join(f'{height}x{width}' for height, width in sizes)
    reason = str(errors[-1]).strip().partition('\n')[0]
    return (
        f'not tried: a prediction. No image of {tried} passed the network; the last '
        f'stopped with {type(errors[-1]).__name__}{reason and f": {reason}"}.'
    )


def _predict_size(
    network: Any, size: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> None:
    channels = input_channels(network.backbone, sizes=sizes)
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), size)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Not mode='tensor', which PointRend does not have.
        network.encode_decode(torch.zeros(1, channels, *size), [shapes])


def _rename_types(config: Any) -> None:
    """Replace types that stand for the host's own by the stock names, in place."""
    if isinstance(config, dict):
        name = _STOCK_NAMES.get(type_name(config)) if 'type' in config else None
        if name is not None:
            config['type'] = name
        parts: Any = list(config.values())
    else:
        parts = config if isinstance(config, list | tuple) else ()
    for part in parts:
        _rename_types(part)


def _own_types(cfg: Config) -> list[str]:
    """Names of all types of this package in a config."""
    return sorted({type_name(c) for c in _typed(cfg.to_dict()) if _is_own(c)})


def _typed(config: Any) -> Iterator[Mapping]:
    if isinstance(config, Mapping):
        if 'type' in config:
            yield config
        config = list(config.values())
    if isinstance(config, list | tuple):
        for part in config:
            yield from _typed(part)


def _is_own(config: Mapping) -> bool:
    """Whether a config builds something that this package defines."""
    kind = config.get('type')
    if not isinstance(kind, str):
        return getattr(kind, '__module__', '').partition('.')[0] == _PACKAGE
    name = kind.rpartition('.')[-1]
    return any(_registered_here(registry, name) for registry in _registries())


def _registered_here(registry: Registry, name: str) -> bool:
    cls = registry.module_dict.get(name)
    module = inspect.getmodule(cls) if cls is not None else None
    return module is not None and module.__name__.partition('.')[0] == _PACKAGE


def _registries() -> list[Registry]:
    """All registries of mmseg; this package registers everything in one of them."""
    return [x for x in vars(mmseg_registries).values() if isinstance(x, Registry)]
