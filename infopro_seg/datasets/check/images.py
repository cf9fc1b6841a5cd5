"""Checks before training that image files are whole and of matching sizes.

Only the first and last bytes of a file are read and nothing is decoded, unless a file
seems to be cut off.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import PIL.Image
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ..samples import BuiltDataset, file_reads, paths_of, samples_of
from .image_files import Decoder, look_at
from .sizes import is_scored, mismatch_matters

_NUM_THREADS = 16


@dataclass(frozen=True)
class _Pair:
    """The files of one sample and their decoders; None for what is not decoded."""

    image: str | None
    label: str | None
    image_decoder: Decoder
    label_decoder: Decoder


def check_built_images(cfg: Config, built: Sequence[BuiltDataset]) -> None:
    """Check that image and label files are whole and have matching sizes.

    Args:
        cfg: The config of the data sets.
        built: The result of ``built_datasets``.

    Raises:
        ValueError: if there is any problem; one message for the first ten.
    """
    problems: dict[str, None] = {}
    for part in built:
        if part.dataset is not None and part.error is None:
            scored = is_scored(cfg, part.origin.loader)
            for problem in _problems(part.dataset, scored):
                problems[problem] = None
    if problems:
        more = f'\n... and {len(problems) - 10} more' if len(problems) > 10 else ''
        raise ValueError(
            f'{len(problems)} problem(s) with the images of this config:\n'
            + '\n'.join(list(problems)[:10])
            + more
            + '\nCopy these files again, or leave them out of the data set.'
        )


def _problems(dataset: BaseDataset, scored: bool) -> Iterator[str]:
    """Damaged files, and labels whose size does not fit their image, as sentences."""
    pairs = _pairs(dataset)
    # Pillow limits the size to guard against malicious files; OpenCV does not.
    limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
    try:
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            found = list(pool.map(_look_at_pair, pairs))
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = limit
    verdicts: dict[Any, bool] = {}
    for pair, (problem, sizes) in zip(pairs, found, strict=True):
        if problem is not None:
            yield problem
        elif sizes is not None:
            if sizes not in verdicts:
                verdicts[sizes] = mismatch_matters(dataset, *sizes, scored=scored)
            if verdicts[sizes]:
                yield _other_size(pair, *sizes)


def _pairs(dataset: BaseDataset) -> list[_Pair]:
    reads = {
        read.key: decoder
        for read in file_reads(dataset)
        if (decoder := Decoder.of(read.reader)) is not None
    }
    if not reads:
        return []
    samples = samples_of(dataset)
    images, labels = (
        paths_of(samples, key) if key in reads else [None] * len(samples)
        for key in ('img_path', 'seg_map_path')
    )
    image, label = (reads.get(key, Decoder()) for key in ('img_path', 'seg_map_path'))
    paths = zip(images, labels, strict=True)
    pairs = [_Pair(*pair, image, label) for pair in paths]
    return list(dict.fromkeys(pairs))


def _look_at_pair(pair: _Pair) -> tuple[str | None, tuple | None]:
    """A problem with the files, and the sizes of image and label if they differ."""
    sizes = []
    for path, decoder in (
        (pair.image, pair.image_decoder),
        (pair.label, pair.label_decoder),
    ):
        if path is not None:
            problem, size = look_at(path, decoder)
            if problem is not None:
                return f'{path} {problem}', None
            sizes.append(size)
    if len(sizes) == 2 and None not in sizes and sizes[0] != sizes[1]:
        return None, tuple(sizes)
    return None, None


def _other_size(pair: _Pair, image: tuple[int, int], label: tuple[int, int]) -> str:
    return (
        f'image {pair.image} has {image[0]}x{image[1]} pixels (height x width), its '
        f'label {pair.label} has {label[0]}x{label[1]}; they must be equal'
    )
