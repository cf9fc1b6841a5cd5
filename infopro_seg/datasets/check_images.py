"""Looks at the image files themselves before training: whole, and of equal size.

Only the first and last bytes of a file are read, nothing is decoded.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL.Image
from mmengine.config import Config

from .check import LOADERS, file_pairs

_NUM_THREADS = 16
_TAIL_BYTES = 1024
# What the last bytes of a whole file hold (PNG 1.2, section 4.1.4; JPEG, ITU-T T.81
# table B.1); some cameras write more after it.
_END_MARKS = {'PNG': b'IEND', 'JPEG': b'\xff\xd9'}


def check_images(cfg: Config, *, loaders: Sequence[str] = LOADERS) -> None:
    """Check that every image and label of a config is a whole file of the same size.

    To be called after `check_datasets`, and for the same data sets. Of several
    processes only the first looks.

    Args:
        cfg: A complete config; it is not changed.
        loaders: The dataloaders to look at.

    Raises:
        ValueError: if there is any problem; one message for the first ten.
    """
    if int(os.environ.get('RANK', 0)) > 0:
        return
    problems = image_problems(file_pairs(cfg, loaders))
    if problems:
        more = f'\n... and {len(problems) - 10} more' if len(problems) > 10 else ''
        raise ValueError(
            f'{len(problems)} problem(s) with the images of this config:\n'
            + '\n'.join(problems[:10])
            + more
            + '\nCopy these files again, or leave them out of the data set.'
        )


def image_problems(pairs: Iterable[tuple[str, str | None]]) -> list[str]:
    """Damaged files, and labels of another size than their image.

    Args:
        pairs: Paths of image and label, or None without a label.

    Returns:
        One sentence a problem, in the order of the pairs.
    """
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = pool.map(_problem, pairs)
        return [problem for problem in found if problem]


def _problem(pair: tuple[str, str | None]) -> str | None:
    sizes = []
    for path in filter(None, pair):
        try:
            sizes.append(_size_of_whole_file(Path(path)))
        except (OSError, SyntaxError, ValueError) as error:  # PIL raises all three
            return f'{path} {_reason(error)}'
    if len(set(sizes)) > 1:
        (width, height), (label_width, label_height) = sizes
        return (
            f'image {pair[0]} has {height}x{width} pixels (height x width), its label '
            f'{pair[1]} has {label_height}x{label_width}; they must be equal'
        )
    return None


def _size_of_whole_file(path: Path) -> tuple[int, int]:
    """Width and height, from the header."""
    with PIL.Image.open(path) as image:
        size, kind = image.size, image.format
    mark = _END_MARKS.get(kind)
    if mark is not None:
        with path.open('rb') as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            if mark not in file.read():
                raise ValueError('the end of the file is missing')
    return size


def _reason(error: Exception) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return 'is no image file'
    return f'is truncated or damaged ({error})'
