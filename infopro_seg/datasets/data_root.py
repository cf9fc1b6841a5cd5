"""The root folder of all data sets of a config, set from the command line."""

import inspect
import warnings
from pathlib import Path

from mmengine.config import Config

from ..arguments import takes
from .dataset_configs import LOADERS, DatasetConfig, dataset_configs
from .streets.dataset import DrawnStreetDataset

# Words in argument names by which classes may take the folder of their data.
_OWN_ROOTS = ('root', 'dir', 'folder', 'path')


def set_data_root(cfg: Config, path: str) -> None:
    """Set the root folder of every data set of a config, in place.

    This is the ``--data-root`` option. It also finds wrapped data sets. It warns about
    each data set that the new root does not reach, except for drawn ones, which read no
    files; and it warns if no data set is reached.

    Args:
        cfg: The config to change.
        path: The new root; ``check_data`` finds out whether it exists.
    """
    is_used = False
    for dataset in dataset_configs(cfg, LOADERS):
        if dataset.cls is DrawnStreetDataset:
            continue
        why_not = _why_not(dataset)
        if why_not:
            warnings.warn(
                f'data root {str(path)!r} does not reach {dataset.place} '
                f'({dataset.name}): {why_not}',
                stacklevel=2,
            )
            continue
        dataset.config['data_root'] = str(path)
        is_used = True
    if is_used:
        cfg['data_root'] = str(path)
    else:
        warnings.warn(
            f'data root {str(path)!r} has no effect: no data set of the config takes '
            'one',
            stacklevel=2,
        )


def _why_not(dataset: DatasetConfig) -> str:
    """Why ``data_root`` has no effect on a data set; empty if it has one."""
    config, cls = dataset.config, dataset.cls
    if 'data_root' in config:
        prefixes = config.get('data_prefix') or {}
        paths = [config.get('ann_file'), *prefixes.values()]
        named = [path for path in paths if path and isinstance(path, str)]
        if named and all(Path(path).is_absolute() for path in named):
            return 'its paths are absolute; set data_prefix and ann_file instead'
        return ''
    if inspect.isclass(cls) and not _takes_root(cls):
        option = f'--cfg-options {dataset.place}.ARGUMENT=FOLDER'
        return f'the class takes no data_root; set its own argument with {option}'
    return ''


def _takes_root(cls: type) -> bool:
    own = inspect.signature(cls).parameters
    if 'data_root' in own:
        return True
    # If the folder has another name, **kwargs may pass data_root on twice.
    has_own = any(word in name for name in own for word in _OWN_ROOTS)
    return not has_own and takes(cls, 'data_root')
