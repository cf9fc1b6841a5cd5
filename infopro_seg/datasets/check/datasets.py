"""Checks the data on disk before anything else is built.

A tool can then report everything that is missing in its first second. A check refuses
only what would fail: the host builds each data set, and what it can build and load
passes.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmseg.datasets import CityscapesDataset

from ...ranks import is_first_process
from ..camvid import CAMVID_LAYOUT, CamVidDataset
from ..data_root import set_data_root
from ..dataset_configs import LOADERS, DatasetConfig, loaders_of
from ..samples import BuiltDataset, built_datasets, file_reads, paths_of, samples_of
from .images import check_built_images

__all__ = [
    'check_data',
    'check_datasets',
    'check_images',
    'loaders_of',
    'set_data_root',
]

_CITYSCAPES_LAYOUT = """\
DATA_ROOT/
  leftImg8bit/
    train/<city>/<city>_000000_000019_leftImg8bit.png, ...
    val/<city>/...
  gtFine/
    train/<city>/<city>_000000_000019_gtFine_labelTrainIds.png, ...
    val/<city>/..."""
_KINDS = {
    'img_path': 'image',
    'seg_map_path': 'label',
    'depth_map_path': 'depth map',
}


def check_data(cfg: Config, *, loaders: Sequence[str] = LOADERS) -> None:
    """Check the files of a config: first that they exist, then each image file.

    Of several processes only the first checks.

    Args:
        cfg: A complete config; it is not changed.
        loaders: The dataloaders to look at, see ``loaders_of``.

    Raises:
        FileNotFoundError: if anything is missing; one message for all of it.
        ValueError: if there is any problem with an image or label file.
    """
    if is_first_process(cfg):
        built = built_datasets(cfg, loaders)
        _check_files(built)
        check_built_images(cfg, built)


def check_datasets(cfg: Config, *, loaders: Sequence[str] = LOADERS) -> None:
    """Check that every file that the data sets of a config will read is on disk.

    It looks at names only and opens no image. What it cannot judge is left to the host:
    data sets that cannot be built for another reason, that load samples in their own
    way, or that read from remote storage.

    Args:
        cfg: A complete config; it is not changed.
        loaders: The dataloaders to look at, see ``loaders_of``.

    Raises:
        FileNotFoundError: if anything is missing; one message for all of it.
    """
    if is_first_process(cfg):
        _check_files(built_datasets(cfg, loaders))


def check_images(cfg: Config, *, loaders: Sequence[str] = LOADERS) -> None:
    """Check that image and label files are whole and have matching sizes.

    Args:
        cfg: A complete config; it is not changed.
        loaders: The dataloaders to look at, see ``loaders_of``.

    Raises:
        ValueError: if there is any problem; one message for the first ten.
    """
    if is_first_process(cfg):
        check_built_images(cfg, built_datasets(cfg, loaders))


def _check_files(built: Sequence[BuiltDataset]) -> None:
    places: dict[str, list[str]] = {}
    hints: dict[str, None] = {}
    for part in built:
        for problem in _problems(part):
            where = f'{part.origin.place} ({part.origin.name})'
            places.setdefault(problem, []).append(where)
            hints[_hint(part.origin)] = None
    if places:
        lines = [f'{len(places)} problem(s) with the data of this config:']
        for number, (problem, owners) in enumerate(places.items(), 1):
            lines.append(f'{number}. {", ".join(owners)}: {problem}')
        lines += [hint for hint in hints if hint]
        lines.append('If the data are elsewhere, pass --data-root DATA_ROOT.')
        raise FileNotFoundError('\n'.join(lines))


def _problems(part: BuiltDataset) -> list[str]:
    if part.dataset is None:
        return []
    if part.error is not None:
        return _why_not_built(part.dataset, part.error)
    if not len(part.dataset) and part.origin.place == 'train_dataloader.dataset':
        return [_no_image(part.dataset)]  # the host would look for one forever
    samples = samples_of(part.dataset)
    problems: list[str] = []
    listed: dict[Path, set[str]] = {}
    for key in dict.fromkeys(read.key for read in file_reads(part.dataset)):
        # The host joins no folder with a path that is absolute or that the data set
        # makes itself, so a folder matters only if files are missing in it.
        paths = [Path(path) for path in paths_of(samples, key) if path]
        missing = [path for path in paths if not _lies_there(path, listed)]
        if not missing:
            continue
        folders = _missing_folders(part.dataset, [key])
        if folders and all(_is_in(path, *folders) for path in missing):
            problems += folders.values()
        else:
            first = ', '.join(map(str, missing[:3]))
            problems.append(
                f'{len(missing)} of {len(samples)} {_KINDS[key]} files are missing, '
                f'first: {first}'
            )
    return problems


def _why_not_built(dataset: BaseDataset, error: Exception) -> list[str]:
    """The missing files, if they are why the host cannot build a data set."""
    backend = getattr(dataset, 'backend_args', None) or {}
    is_remote = backend.get('backend', 'local') != 'local'
    # The host joins paths with the root before it builds the pipeline.
    if is_remote or not hasattr(dataset, 'pipeline'):
        return []
    ann_file = getattr(dataset, 'ann_file', None)
    missing = {}
    if ann_file and isinstance(ann_file, str) and not _exists(ann_file):
        missing[ann_file] = f'no {ann_file} (ann_file)'
    keys = {'img_path': None} | {read.key: None for read in file_reads(dataset)}
    missing.update(_missing_folders(dataset, list(keys)))
    if missing and _is_about(error, missing, ann_file):
        root = getattr(dataset, 'data_root', None)
        is_lost = isinstance(root, str) and root and not _exists(root)
        return [f'no folder {root} (data_root)'] if is_lost else list(missing.values())
    if _has_no_sample(error):
        return [_no_image(dataset)]
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return [str(error).partition(' Expected layout')[0]]
    return []


def _is_about(error: Exception, missing: Collection[str], ann_file: Any) -> bool:
    """Whether what is missing is why the host could not build a data set.

    A data set may have settings that it does not use, and fail for another reason.
    """
    if _has_no_sample(error):
        return not ann_file or ann_file in missing
    if isinstance(error, OSError) and error.filename is not None:
        return _is_in(Path(os.fsdecode(error.filename)), *missing)
    texts = [text for text in error.args if isinstance(text, str)]
    if isinstance(error, AssertionError) and not texts:
        return True  # some classes of the host assert that a folder exists
    return any(place in text for place in missing for text in texts)


def _no_image(dataset: BaseDataset) -> str:
    source = dataset.ann_file or dataset.data_prefix.get('img_path')
    return f'no image *{getattr(dataset, "img_suffix", "")} in {source}'


def _has_no_sample(error: Exception) -> bool:
    """Whether an error comes from packing an empty list of samples."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == '_serialize_data':
            return not trace.tb_frame.f_locals['self'].data_list
        trace = trace.tb_next
    return False


def _missing_folders(dataset: BaseDataset, keys: Sequence[str]) -> dict[str, str]:
    """Folders of ``data_prefix`` that do not exist, and a sentence about each."""
    prefixes = getattr(dataset, 'data_prefix', None) or {}
    folders = {key: prefixes.get(key) for key in keys}
    return {
        folder: f'no {folder} (data_prefix.{key})'
        for key, folder in folders.items()
        if folder and isinstance(folder, str) and not _exists(folder)
    }


def _is_in(path: Path, *places: str) -> bool:
    """Whether a path is one of some files and folders, or lies in one."""
    return any(path.is_relative_to(place) for place in places)


def _exists(path: str) -> bool:
    return '://' in path or Path(path).exists()


def _lies_there(path: Path, listed: dict[Path, set[str]]) -> bool:
    """Whether a file exists; listing each folder once is faster than many checks."""
    folder = path.parent
    if folder not in listed:
        names = folder.iterdir() if folder.is_dir() else ()
        listed[folder] = {entry.name for entry in names}
    return path.name in listed[folder] or path.exists()


def _hint(origin: DatasetConfig) -> str:
    """What a complete data set of this class looks like, and how to get one."""
    if origin.cls is CityscapesDataset:
        root = origin.config.get('data_root') or 'DATA_ROOT'
        return (
            f'Expected layout of Cityscapes:\n{_CITYSCAPES_LAYOUT}\n'
            'The labelTrainIds files are not in the download; unpack it and make them '
            'with: '
            f'python tools/prepare_cityscapes.py {root}'
        )
    if issubclass(origin.cls, CamVidDataset):
        return f'Expected layout of CamVid:\n{CAMVID_LAYOUT}'
    return ''
