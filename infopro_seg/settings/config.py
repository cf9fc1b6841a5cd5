"""Reads configs: what the Runner makes of them, in whatever spelling.

What it would fill in is answered, never written into the config: whoever changes the
config later is heard.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..bundled import CONFIGS

# Settings of pipeline steps that say how large the images are.
_SIZE_SETTINGS = ('crop_size', 'size', 'scale', 'img_scale')


def read_config(path: str | Path) -> Config:
    """Read a config.

    Args:
        path: A file, or the name of one in an installed package, such as
            ``infopro_seg::infopro_deeplabv3_r101_cityscapes.py`` or
            ``mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py``.

    Raises:
        FileNotFoundError: if the file does not exist.
    """
    path = str(path)
    if '::' in path:
        return _read_from_package(path)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'config file {path} does not exist; the ones that come with the package '
            f'are infopro_seg::NAME, with a NAME from {CONFIGS}.'
        )
    return Config.fromfile(path)


def _read_from_package(name: str) -> Config:
    """A config of an installed package, under its own file name."""
    cfg = Config.fromstring(f'_base_ = {name!r}\n', '.py')
    return Config(
        cfg.to_dict(),
        cfg_text=cfg.text,
        filename=name.rpartition('::')[-1],
        env_variables=cfg.env_variables,
    )


def model_config(cfg: Config) -> ConfigDict:
    """The model of a config, as the Runner builds it.

    A model without a data preprocessor gets the top-level one.

    Args:
        cfg: Any config with a model; not changed.

    Returns:
        A copy.
    """
    model = copy.deepcopy(cfg.model)
    preprocessor = cfg.get('data_preprocessor')
    if isinstance(model, dict) and preprocessor is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(preprocessor))
    return model


def type_name(config: Any) -> str:
    """The name of what a config builds, however it is written.

    Args:
        config: A dict with ``type``, or the type itself: a name with or without scope
            or module, or a class.

    Returns:
        A name such as ``EncoderDecoder``; empty if there is no type.
    """
    kind = config.get('type', '') if isinstance(config, Mapping) else config
    if isinstance(kind, str):
        return kind.rpartition('.')[-1]
    return getattr(kind, '__name__', type(kind).__name__)


def amp_dtype_of(cfg: Config) -> str | None:
    """``float16`` or ``bfloat16`` if a config trains in mixed precision, else None."""
    wrapper = cfg.get('optim_wrapper') or {}
    if type_name(wrapper) != 'AmpOptimWrapper':
        return None
    return wrapper.get('dtype') or 'float16'


def batch_size_of(cfg: Config) -> int | None:
    """Images per step and GPU of a config; None if it does not say."""
    loader = cfg.get('train_dataloader')
    return loader.get('batch_size') if isinstance(loader, Mapping) else None


def crop_size_of(cfg: Config) -> tuple[int, int] | None:
    """(height, width) of the images that a config trains on.

    The size of the data preprocessor, or else of the last step of the training pipeline
    that names one. None if neither does.
    """
    model = cfg.get('model') or {}
    preprocessor = model.get('data_preprocessor', cfg.get('data_preprocessor'))
    size = preprocessor.get('size') if isinstance(preprocessor, Mapping) else None
    return _pair(size) or _size_of_pipeline(_training_pipeline(cfg))


def leaf_datasets(dataset: Any) -> Iterator[dict]:
    """The data set configs that wrap no other.

    Args:
        dataset: The ``dataset`` of a loader: a config, wrapped or not, or a list of
            several.
    """
    if isinstance(dataset, list | tuple):
        for part in dataset:
            yield from leaf_datasets(part)
    elif isinstance(dataset, dict):
        inner = [dataset[key] for key in ('dataset', 'datasets') if key in dataset]
        if not inner:
            yield dataset
        yield from leaf_datasets(inner)


def _training_pipeline(cfg: Config) -> list:
    """The outermost pipeline of the training data, which crops last."""
    loader = cfg.get('train_dataloader')
    dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
    while dataset is not None:
        if isinstance(dataset, list | tuple):
            dataset = dataset[0] if dataset else None
        elif not isinstance(dataset, Mapping):
            break
        elif dataset.get('pipeline'):
            return list(dataset['pipeline'])
        else:
            dataset = dataset.get('dataset') or dataset.get('datasets')
    return list(cfg.get('train_pipeline') or [])


def _size_of_pipeline(steps: list) -> tuple[int, int] | None:
    for step in reversed(steps):
        if not isinstance(step, Mapping):
            continue
        for key in _SIZE_SETTINGS:
            size = _pair(step.get(key))
            if size is not None:
                # mmcv's resizing steps take (width, height).
                return size if key in ('crop_size', 'size') else size[::-1]
    return None


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int) and not isinstance(size, bool):
        return size, size
    is_pair = isinstance(size, list | tuple) and len(size) == 2
    if not is_pair or not all(isinstance(side, int) for side in size):
        return None
    return size[0], size[1]


def divide_batch(cfg: Config, num_processes: int) -> None:
    """Divide ``total_batch_size`` over the processes.

    A recipe's learning rate belongs to its total batch, while the host's
    ``train_dataloader.batch_size`` counts images per GPU. A config that sets
    ``total_batch_size`` trains the same on any number of GPUs.

    Args:
        cfg: Changed in place; untouched without ``total_batch_size``.
        num_processes: World size.

    Raises:
        ValueError: if the total is not divisible by the number of processes.
    """
    total = cfg.get('total_batch_size')
    if total is None or cfg.get('train_dataloader') is None:
        return
    if total % num_processes:
        near = [n for n in range(1, total + 1) if total % n == 0]
        raise ValueError(
            f'total_batch_size={total} is not divisible by {num_processes} processes. '
            f'Use one of {near} processes, or change total_batch_size and the learning '
            'rate with it.'
        )
    cfg.train_dataloader.batch_size = total // num_processes


def as_list(value: Any) -> list:
    """One value or several, as a list; None gives an empty list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
