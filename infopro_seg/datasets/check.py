"""Checks the data on disk before anything else is built, and moves data roots.

Works on configs, so that a tool can say all that is missing in its first second.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.registry import DATASETS

from .camvid import CAMVID_LAYOUT, CamVidDataset
from .streets import DrawnStreetDataset

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_CITYSCAPES_LAYOUT = """\
DATA_ROOT/
  leftImg8bit/
    train/<city>/<city>_000000_000019_leftImg8bit.png, ...
    val/<city>/...
  gtFine/
    train/<city>/<city>_000000_000019_gtFine_labelTrainIds.png, ...
    val/<city>/..."""


def check_datasets(cfg: Config, *, loaders: Sequence[str] = LOADERS) -> None:
    """Check that every image and label that a config names is on disk.

    Looks at names only, no image is opened. Data sets that are not mmseg's
    ``BaseSegDataset``, and those read from remote storage, are left alone.

    Args:
        cfg: a complete config; it is not changed.
        loaders: the dataloaders to look at, those that will be used.

    Raises:
        FileNotFoundError: if anything is missing; one message for all of it.
    """
    places: dict[str, list[str]] = {}
    hints: dict[str, None] = {}
    for place, dataset in _leaves(cfg, loaders):
        cls = _class_of(dataset)
        if cls is None or _is_remote(dataset):
            continue
        for problem in _problems(cls, dataset):
            places.setdefault(problem, []).append(f'{place} ({cls.__name__})')
            hints[_hint(cls, dataset)] = None
    if places:
        lines = [f'{len(places)} problem(s) with the data of this config:']
        for number, (problem, where) in enumerate(places.items(), 1):
            lines.append(f'{number}. {", ".join(where)}: {problem}')
        lines += [hint for hint in hints if hint]
        lines.append('Where the data lie elsewhere, say so with --data-root DATA_ROOT.')
        raise FileNotFoundError('\n'.join(lines))


def set_data_root(cfg: Config, path: str) -> None:
    """Set the root folder of every data set of a config, in place.

    Serves the ``--data-root`` option. Wrapped data sets are found too. Warns if no data
    set of the config reads files, as then there is nothing to set.

    Args:
        cfg: the config to change.
        path: the new root; it may be missing, ``check_datasets`` finds out.
    """
    is_used = False
    for _, dataset in _leaves(cfg, LOADERS):
        if _class_of(dataset) is not DrawnStreetDataset:
            dataset['data_root'] = str(path)
            is_used = True
    if is_used:
        cfg['data_root'] = str(path)
    else:
        warnings.warn(
            f'data root {path!r} has no effect: no data set of the config reads files',
            stacklevel=2,
        )


def file_pairs(cfg: Config, loaders: Sequence[str]) -> list[tuple[str, str | None]]:
    """Image and label file of every sample on disk; each pair once.

    Args:
        cfg: a config that passed ``check_datasets``.
        loaders: the dataloaders to look at.

    Returns:
        Paths; the label is None where a data set has none.
    """
    pairs: dict[tuple[str, str | None], None] = {}
    for _, dataset in _leaves(cfg, loaders):
        cls = _class_of(dataset)
        if cls is None or cls is DrawnStreetDataset or _is_remote(dataset):
            continue
        for info in _without_files(cls, dataset).load_data_list():
            pairs[info['img_path'], info.get('seg_map_path')] = None
    return list(pairs)


def _leaves(cfg: Config, loaders: Sequence[str]) -> Iterator[tuple[str, ConfigDict]]:
    """Every data set config that wraps no other, with its place in the config."""
    stack = []
    for name in reversed(loaders):
        loader = cfg.get(name)
        if loader:
            stack.append((f'{name}.dataset', loader.get('dataset')))
    while stack:
        place, dataset = stack.pop()
        if not isinstance(dataset, dict):
            continue
        inner = dataset.get('datasets', [])
        parts = [(f'{place}.datasets[{i}]', part) for i, part in enumerate(inner)]
        if 'dataset' in dataset:
            parts.append((f'{place}.dataset', dataset['dataset']))
        if parts:
            stack.extend(reversed(parts))
        else:
            yield place, dataset


def _class_of(dataset: ConfigDict) -> type[BaseSegDataset] | None:
    """The data set's class, or None if it is not one that can be checked.

    An unregistered name is left to the registry, whose message tells what to import.
    """
    cls = dataset.get('type')
    cls = DATASETS.get(cls) if isinstance(cls, str) else cls
    is_known = isinstance(cls, type) and issubclass(cls, BaseSegDataset)
    return cls if is_known else None


def _is_remote(dataset: ConfigDict) -> bool:
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    return backend != 'local' or '://' in str(dataset.get('data_root') or '')


def _problems(cls: type[BaseSegDataset], dataset: ConfigDict) -> list[str]:
    if cls is DrawnStreetDataset:
        return []
    # Configs inherited from a package carry its scope.
    args = {k: v for k, v in dataset.items() if k not in ('type', '_scope_')}
    args.update(pipeline=[], lazy_init=True)
    try:
        # Without its files, for the joined paths and the class's own defaults.
        built = cls(**args)
    except (AssertionError, FileNotFoundError) as error:
        return [f'{type(error).__name__}: {error}']
    settings = {'ann_file': built.ann_file}
    for key in ('img_path', 'seg_map_path'):
        settings[f'data_prefix.{key}'] = built.data_prefix.get(key)
    missing = [
        f'no {path} ({setting})'
        for setting, path in settings.items()
        if path and not Path(path).exists()
    ]
    if missing and built.data_root and not Path(built.data_root).is_dir():
        return [f'no folder {built.data_root} (data_root)']
    return missing or _listing_problems(built)


def _without_files(cls: type[BaseSegDataset], dataset: ConfigDict) -> BaseSegDataset:
    """The data set unread, for the joined paths and the class's own defaults."""
    args = {key: value for key, value in dataset.items() if key != 'type'}
    args.update(pipeline=[], lazy_init=True)
    return cls(**args)


def _listing_problems(built: BaseSegDataset) -> list[str]:
    """Problems of a data set whose folders exist: no images, or not all the labels."""
    try:
        data_list = built.load_data_list()
    except (FileNotFoundError, ValueError) as error:
        return [str(error).partition(' Expected layout')[0]]
    if not data_list:
        source = built.ann_file or built.data_prefix.get('img_path')
        return [f'no image *{built.img_suffix} in {source}']
    problems = []
    listed: dict[Path, set[str]] = {}
    for key, kind in (('img_path', 'image'), ('seg_map_path', 'label')):
        paths = [Path(info[key]) for info in data_list if key in info]
        missing = [path for path in paths if not _lies_there(path, listed)]
        if missing:
            first = ', '.join(map(str, missing[:3]))
            problems.append(
                f'{len(missing)} of {len(data_list)} {kind} files are missing, first: '
                f'{first}'
            )
    return problems


def _lies_there(path: Path, listed: dict[Path, set[str]]) -> bool:
    """Whether a file exists; lists each folder once, quicker than asking for each."""
    folder = path.parent
    if folder not in listed:
        names = folder.iterdir() if folder.is_dir() else ()
        listed[folder] = {entry.name for entry in names}
    return path.name in listed[folder]


def _hint(cls: type[BaseSegDataset], dataset: ConfigDict) -> str:
    """What a ready data set of this class looks like and how to get there."""
    if cls is CityscapesDataset:
        root = dataset.get('data_root') or 'DATA_ROOT'
        return (
            f'Expected layout of Cityscapes:\n{_CITYSCAPES_LAYOUT}\n'
            'The labelTrainIds files are not in the download; make them with: '
            f'python tools/prepare_cityscapes.py {root}'
        )
    if issubclass(cls, CamVidDataset):
        return f'Expected layout of CamVid:\n{CAMVID_LAYOUT}'
    return ''
