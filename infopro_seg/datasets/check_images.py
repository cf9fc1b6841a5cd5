"""Looks at the image files themselves before training: whole, and of equal size.

Only the first and last bytes of a file are read, nothing is decoded.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL.Image

_NUM_THREADS = 16
_TAIL_BYTES = 1024
# What the last bytes of a whole file hold (PNG 1.2, section 4.1.4; JPEG, ITU-T T.81
# table B.1); some cameras write more after it.
_END_MARKS = {'PNG': b'IEND', 'JPEG': b'\xff\xd9'}


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
            return str(error)
    if len(set(sizes)) > 1:
        (width, height), (label_width, label_height) = sizes
        return (
            f'image {pair[0]} has {height}x{width} pixels (height x width), its label '
            f'{pair[1]} has {label_height}x{label_width}; they must be equal'
        )
    return None


def _size_of_whole_file(path: Path) -> tuple[int, int]:
    """Width and height, from the header."""
    try:
        with PIL.Image.open(path) as image:
            size, kind = image.size, image.format
    except PIL.UnidentifiedImageError as error:
        raise ValueError(f'{path} is no image file') from error
    mark = _END_MARKS.get(kind)
    if mark is not None:
        with path.open('rb') as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            if mark not in file.read():
                raise ValueError(f'{path} is truncated: the end of the file is missing')
    return size
