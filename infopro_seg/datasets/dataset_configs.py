"""The data sets of a config: which loaders run, and what wraps what."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmengine.config import Config
from mmseg.registry import DATASETS

from ..scopes import class_of, scope_of

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Wrappers that pass samples on unchanged; others may change or select samples.
_PLAIN_WRAPPERS = {
    'ConcatDataset',
    'RepeatDataset',
    'ClassBalancedDataset',
    'MultiImageMixDataset',
}


@dataclass(frozen=True)
class DatasetConfig:
    """The config of a data set that wraps no other.

    Args:
        loader: Name of its dataloader.
        place: Its place in the config, such as ``train_dataloader.dataset``.
        config: Its part of the config, not a copy.
        scope: The registry scope in which it is built; None for the one in use.
        is_plain: Whether it is certain that all samples are used, unchanged.
    """

    loader: str
    place: str
    config: dict[str, Any]
    scope: str | None
    is_plain: bool

    @property
    def cls(self) -> Any:
        """The class that ``type`` stands for; None for a name that is not registered.

        An unregistered name is left to the host, whose message says what to import.
        """
        return class_of(DATASETS, self.config.get('type'), self.scope)

    @property
    def name(self) -> str:
        """Name of the class."""
        return getattr(self.cls, '__name__', str(self.config.get('type')))


def loaders_of(cfg: Config, *, training: bool) -> tuple[str, ...]:
    """Names of the dataloaders that a run reads from.

    Args:
        cfg: A complete config.
        training: True for training with its validation, False for testing.
    """
    if not training:
        return ('test_dataloader',)
    has_validation = cfg.get('val_cfg') is not None
    return ('train_dataloader', 'val_dataloader')[: 1 + has_validation]


def dataset_configs(cfg: Config, loaders: Sequence[str]) -> Iterator[DatasetConfig]:
    """Every data set of a config that wraps no other, in the order of the config.

    Args:
        cfg: A config; loaders that it lacks are skipped.
        loaders: Names of dataloaders.
    """
    scope = scope_of(cfg)
    for name in loaders:
        loader = cfg.get(name)
        if isinstance(loader, dict):
            # Which samples a shortened epoch takes is unknown.
            is_plain = loader.get('num_batch_per_epoch') is None
            around = _Surroundings(name, scope, is_plain)
            yield from _inside(loader.get('dataset'), f'{name}.dataset', around)


class _Surroundings(NamedTuple):
    """What a data set inherits from where it is; fields as in `DatasetConfig`."""

    loader: str
    scope: str | None
    is_plain: bool

    def within(self, config: dict[str, Any]) -> '_Surroundings':
        return self._replace(scope=config.get('_scope_') or self.scope)

    def wrapped_by(self, config: dict[str, Any]) -> '_Surroundings':
        kind = config.get('type')
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        is_plain = name.rpartition('.')[-1] in _PLAIN_WRAPPERS
        return self._replace(is_plain=self.is_plain and is_plain)


def _inside(config: Any, place: str, around: _Surroundings) -> Iterator[DatasetConfig]:
    """The unwrapped data sets in a part of a config."""
    if isinstance(config, list | tuple):
        for i, inner in enumerate(config):
            yield from _inside(inner, f'{place}[{i}]', around)
        return
    if not isinstance(config, dict):
        return
    loader, scope, is_plain = around = around.within(config)
    keys = _wrapped_keys(config)
    if not keys:
        yield DatasetConfig(loader, place, config, scope, is_plain)
    for key in keys:
        yield from _inside(config[key], f'{place}.{key}', around.wrapped_by(config))


def _wrapped_keys(config: dict[str, Any]) -> list[str]:
    keys = ('datasets', 'dataset')
    return [key for key in keys if isinstance(config.get(key), dict | list | tuple)]
