"""What the package needs from its host libraries, checked once at import.

Two families provide mmengine, mmcv and mmseg under the same import names: the
OpenMMLab originals and the maintained ``onedl-*`` forks. Nothing else in the package
knows which one is installed.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError

_INSTALL = (
    'Install the tested set with "pip install -r requirements.txt", or one family of '
    'host libraries with "pip install infopro-seg[onedl]" (maintained forks, '
    'recommended) or "pip install infopro-seg[openmmlab]" (originals). Never install '
    'both: they own the same import folders.'
)
_MIN_TORCH = (2, 6)


def require_torch(version: str) -> None:
    """Check the version of torch.

    torch 2.5 cannot read the checkpoint of a run without running code in it (tried with
    2.5.1). Reducers before 2.4 leave the gradients of modules that ran backward early
    without averaging them over the processes, silently (PyTorch PR #124193).

    Args:
        version: ``torch.__version__``, such as ``2.14.1+cu130``.

    Raises:
        ImportError: if the version is older than 2.6.
    """
    major, minor = version.split('.')[:2]
    if (int(major), int(minor)) < _MIN_TORCH:
        raise ImportError(
            f'infopro_seg needs torch >= {_MIN_TORCH[0]}.{_MIN_TORCH[1]} (older '
            "versions cannot read a run's checkpoint without running code in it), "
            f'found torch {version}. {_INSTALL}'
        )


def require_mmseg() -> None:
    """Check that mmsegmentation can be imported, with its models.

    Raises:
        ImportError: if it is missing or cannot be loaded; the cause is chained.
    """
    try:
        with _without_complaints():
            import mmseg.datasets
            import mmseg.models  # noqa: F401
    except Exception as error:  # its version checks raise AssertionError
        raise ImportError(
            f'infopro_seg extends mmsegmentation, which cannot be imported: '
            f'{type(error).__name__}: {error}. {_INSTALL}'
        ) from error


@contextlib.contextmanager
def _without_complaints() -> Iterator[None]:
    """Leave out what the host says of packages that it can do without."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said):
        warnings.filterwarnings('ignore', message='Fail to import ``MultiScale')
        yield
    for line in said.getvalue().splitlines():
        if line != 'Could not import OneDL':
            print(line)


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of some distributions that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def find_mmseg_configs() -> None:
    """Let ``_base_ = 'mmseg::...'`` find the configs of the installed family.

    mmengine looks configs up by distribution name and knows only the originals'
    (measured with onedl-mmengine 0.10.12).
    """
    from mmengine.config import utils

    try:
        metadata.distribution('mmsegmentation')
    except metadata.PackageNotFoundError:
        utils.MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'


def import_formatter(attempts: int = 20) -> None:
    """Import yapf, by which mmengine prints configs, in spite of its cache.

    yapf shows its cache file to other processes before the content is written (0.43:
    renamed before it is flushed), and never repairs one that is damaged. The first
    processes that run side by side in a new environment meet such a file. Where yapf is
    missing, so is mmengine, and `require_mmseg` says so.

    Args:
        attempts: How often the cache is emptied before the error is raised.
    """
    for left in reversed(range(attempts)):
        try:
            import yapf  # noqa: F401
        except ModuleNotFoundError:
            return
        except (EOFError, UnpicklingError):
            if not left:
                raise
            _empty_formatter_cache()
        else:
            return


def _empty_formatter_cache() -> None:
    from platformdirs import user_cache_dir

    folder = user_cache_dir('YAPF', 'Google', version=metadata.version('yapf'))
    for file in Path(folder).glob('*.pickle'):
        file.unlink(missing_ok=True)
