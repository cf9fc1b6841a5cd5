"""Where the configs and tools that come with the package are.

A wheel has them in ``infopro_seg/.mim``, as mmseg has its own; in a checkout they are
beside the package.
"""

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / '.mim'
_FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
_PREFIX = f'{_PACKAGE.name}::'

CONFIGS = _FOLDER / 'configs'
TOOLS = _FOLDER / 'tools'
#: The folder that other processes need to import the package; None if it is installed.
CHECKOUT = None if _INSTALLED.is_dir() else _PACKAGE.parent


def is_bundled(name: str) -> bool:
    """Whether a name such as ``infopro_seg::NAME`` is of a file of the package."""
    return name.startswith(_PREFIX)


def bundled_file(name: str) -> Path:
    """A config or study that comes with the package.

    Args:
        name: ``infopro_seg::`` and a path in the folder of configs, such as
            ``infopro_seg::studies/streets_r18.yaml``.

    Raises:
        FileNotFoundError: if there is none of this name.
    """
    wanted = name.removeprefix(_PREFIX)
    path = CONFIGS / wanted
    if path.is_file():
        return path
    files = (file for file in CONFIGS.rglob('*') if file.suffix in ('.py', '.yaml'))
    names = [file.relative_to(CONFIGS).as_posix() for file in files]
    near = difflib.get_close_matches(wanted, names, 1)
    hint = f'did you mean {_PREFIX}{near[0]}? All' if near else 'all'
    raise FileNotFoundError(f'{name} does not exist; {hint} are in {CONFIGS}.')
