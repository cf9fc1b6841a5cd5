"""What data sets read from disk, according to the data sets themselves.

A data set is built exactly as the Runner builds it. Its own list says which files there
are, and its own pipeline says which of them are read. What is uncertain is not judged.
"""

import copy
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from .dataset_configs import DatasetConfig, dataset_configs

# Transforms of the host that read files, and the keys of the paths in a sample.
_READERS = {
    'mmcv.LoadImageFromFile': ('img_path',),
    'mmseg.LoadAnnotations': ('seg_map_path',),
    'mmseg.LoadImageFromNpyFile': ('img_path',),
    'mmseg.LoadBiomedicalImageFromFile': ('img_path',),
    'mmseg.LoadBiomedicalAnnotation': ('seg_map_path',),
    'mmseg.LoadDepthAnnotation': ('depth_map_path',),
}
# Transforms of the host that run others, perhaps not always.
_BRANCHES = {
    'Compose',
    'KeyMapper',
    'TransformBroadcaster',
    'RandomChoice',
    'RandomApply',
    'MultiScaleFlipAug',
}
# A data set that overrides one of these loads its samples in an unknown way.
_ACCESS = ('__getitem__', 'prepare_data', 'get_data_info')


@dataclass
class BuiltDataset:
    """A data set of a config, built by the host.

    Args:
        origin: Its place in the config.
        dataset: The data set, or as much of it as was built before ``error``.
        error: Why it could not be built; None if it could.
    """

    origin: DatasetConfig
    dataset: BaseDataset | None
    error: Exception | None = None


@dataclass(frozen=True)
class FileRead:
    """A file of each sample that a pipeline is certain to read from the local disk.

    Args:
        key: Key of the path in a sample, such as ``img_path``.
        reader: The transform that reads it.
    """

    key: str
    reader: Any


def built_datasets(cfg: Config, loaders: Sequence[str]) -> list[BuiltDataset]:
    """Build every data set of a config that is a ``BaseDataset`` of the host.

    Wrappers are not built: some of them read every label at once.

    Args:
        cfg: A complete config; it is not changed.
        loaders: The dataloaders to look at.
    """
    return [
        _built(dataset)
        for dataset in dataset_configs(cfg, loaders)
        if dataset.is_plain
        and isinstance(dataset.cls, type)
        and issubclass(dataset.cls, BaseDataset)
    ]


def _built(origin: DatasetConfig) -> BuiltDataset:
    scope = DefaultScope.overwrite_default_scope(origin.scope)
    with scope, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the Runner will repeat them
        try:
            dataset = DATASETS.build(copy.deepcopy(origin.config))
            dataset.full_init()
        except Exception as error:  # left to the host, unless a file is missing
            return BuiltDataset(origin, _half_built(error), error)
    return BuiltDataset(origin, dataset)


def _half_built(error: BaseException | None) -> BaseDataset | None:
    """The partly built data set whose constructor raised an error."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            dataset = frame.f_locals.get('self')
            if isinstance(dataset, BaseDataset):
                return dataset
        error = error.__cause__ or error.__context__
    return None


def samples_of(dataset: BaseDataset) -> list[dict[str, Any]]:
    """What a data set passes to its pipeline; empty if it loads in an unknown way."""
    cls = type(dataset)
    if any(getattr(cls, name) is not getattr(BaseDataset, name) for name in _ACCESS):
        return []
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def file_reads(dataset: BaseDataset) -> list[FileRead]:
    """Files that the data set's pipeline is certain to read from the local disk."""
    reads = []
    for step in known_steps(dataset):
        if _is_local(step) and not getattr(step, 'ignore_empty', False):
            reads += [FileRead(key, step) for key in _READERS.get(_full_name(step), ())]
    return reads


def known_steps(dataset: BaseDataset) -> Iterator[Any]:
    """Transforms of a data set, up to the first unknown one.

    With test-time augmentation, those of its first variant.
    """
    pipeline = getattr(dataset, 'pipeline', None)
    return _known(getattr(pipeline, 'transforms', []))


def paths_of(samples: Iterable[dict[str, Any]], key: str) -> list[str | None]:
    """The path that each sample has under a key; None if it is no local file."""
    return [_local_path(sample.get(key)) for sample in samples]


def _known(steps: Iterable[Any]) -> Iterator[Any]:
    for step in steps:
        package, _, name = _full_name(step).partition('.')
        if package not in ('mmcv', 'mmseg') or name in _BRANCHES:
            return
        if name == 'TestTimeAug':
            yield from _known(step.subroutines[0].transforms)
            return
        yield step


def _full_name(step: Any) -> str:
    """Package and class, as in ``mmcv.LoadImageFromFile``."""
    cls = type(step)
    return f'{cls.__module__.partition(".")[0]}.{cls.__name__}'


def _is_local(step: Any) -> bool:
    client = getattr(step, 'file_client_args', None) or {}
    if client.get('backend', 'disk') not in ('disk', 'local'):
        return False
    arguments = getattr(step, 'backend_args', None)
    if arguments and arguments.get('backend', 'local') != 'local':
        return False
    # A user may have registered another backend for plain paths.
    return type(get_file_backend('file', backend_args=arguments)) is LocalBackend


def _local_path(path: Any) -> str | None:
    if isinstance(path, str | PathLike):
        text = fspath(path)
        if isinstance(text, str) and '://' not in text:
            return text
    return None
