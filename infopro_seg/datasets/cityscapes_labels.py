"""The training labels of Cityscapes, made from its official download.

mmseg trains on ``*_gtFine_labelTrainIds.png``, which the download does not contain:
cityscapesscripts rasterises them from the polygons. This module loops over the files,
can be interrupted and rerun, and finds out what is there and what is missing.
tools/prepare_cityscapes.py prints the results; cityscapes_zips.py unpacks the download.
"""

import contextlib
import io
import os
import signal
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SPLITS = ('train', 'val', 'test')

# Source: the dataset overview of the Cityscapes web site.
NUM_OFFICIAL_IMAGES = {'train': 2975, 'val': 500, 'test': 1525}

ANNOTATION_ZIP = 'gtFine_trainvaltest.zip'
IMAGE_ZIP = 'leftImg8bit_trainvaltest.zip'
ZIP_OF = {'gtFine': ANNOTATION_ZIP, 'leftImg8bit': IMAGE_ZIP}
DOWNLOADS = 'https://www.cityscapes-dataset.com/downloads/'

IMAGE_SUFFIX = '_leftImg8bit.png'
ANNOTATION_SUFFIX = '_gtFine_polygons.json'
_LABEL_SUFFIX = '_gtFine_labelTrainIds.png'

_LAYOUT = f"""\
Expected layout, as the two zip files {ANNOTATION_ZIP} and {IMAGE_ZIP} of
{DOWNLOADS} unpack to:
  DATA_ROOT/
    gtFine/
      train/aachen/aachen_000000_000019{ANNOTATION_SUFFIX}
      val/frankfurt/...
    leftImg8bit/
      train/aachen/aachen_000000_000019{IMAGE_SUFFIX}
      val/frankfurt/..."""


@dataclass(frozen=True)
class SplitSurvey:
    """What one split holds; frames are named ``<city>_<sequence>_<frame>``.

    Args:
        split: ``train``, ``val`` or ``test``.
        images: Frames with an image.
        annotations: Frames with a polygon file.
        labels: Frames with a ``*_labelTrainIds.png``.
    """

    split: str
    images: frozenset[str]
    annotations: frozenset[str]
    labels: frozenset[str]

    @property
    def is_trainable(self) -> bool:
        """Whether there are images and each has its label image."""
        return bool(self.images) and self.images <= self.labels

    @property
    def num_images_of_city(self) -> dict[str, int]:
        """The number of images of each city, in the cities' order."""
        return dict(sorted(Counter(x.split('_')[0] for x in self.images).items()))


def require_cityscapesscripts() -> None:
    """Check that cityscapesscripts can be imported.

    Raises:
        ImportError: if it cannot; the cause is chained.
    """
    try:
        import cityscapesscripts.helpers.labels  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'cityscapesscripts cannot be imported ({error}). Install it with '
            '"pip install cityscapesscripts" (tested with 2.3.0).'
        ) from error


def check_layout(root: Path, *, zipped: Collection[str] = ()) -> None:
    """Check that a folder looks like the official download.

    Args:
        root: The folder.
        zipped: Folders that may be missing, as they are in zip files.

    Raises:
        FileNotFoundError: if gtFine/ or leftImg8bit/ is missing; the message names
            the zip files and draws the layout.
    """
    missing = [x for x in ZIP_OF if x not in zipped and not (root / x).is_dir()]
    if missing:
        folders = ' and '.join(f'{x}/' for x in missing)
        files = ' and '.join(ZIP_OF[x] for x in missing)
        raise FileNotFoundError(
            f'{root} holds no {folders}: put {files} into it, or say where they are '
            f'with --zips.\n{_LAYOUT}'
        )


def find_annotations(root: Path, splits: Sequence[str]) -> list[Path]:
    """List the polygon files of some splits, sorted within each split.

    Raises:
        FileNotFoundError: if the layout is not that of the official download.
        ValueError: if a split is unknown.
    """
    unknown = [x for x in splits if x not in SPLITS]
    if unknown:
        raise ValueError(f'unknown splits {unknown}; choose from {", ".join(SPLITS)}')
    check_layout(root)
    return [
        path
        for split in dict.fromkeys(splits)
        for path in _files(root / 'gtFine' / split, ANNOTATION_SUFFIX)
    ]


def label_path(annotation: Path) -> Path:
    """The path of the label image that belongs to a polygon file, beside it."""
    frame = annotation.name.removesuffix(ANNOTATION_SUFFIX)
    return annotation.with_name(frame + _LABEL_SUFFIX)


def make_label_image(annotation: Path) -> str | None:
    """Rasterise one polygon file to trainIds; an old label image is replaced.

    The image is written atomically, so that an interrupted run leaves a whole file or
    none.

    Returns:
        None, or one line that says why it failed: a broken file does not stop the rest.

    Source:
        ``json2labelImg`` of cityscapesscripts does the drawing: uint8 (H, W) with
        0..18 for the evaluated classes, 255 for all else.
    """
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    target = label_path(annotation)
    partial = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    prints = io.StringIO()
    try:
        with contextlib.redirect_stdout(prints):
            polygons = Annotation()
            polygons.fromJsonText(annotation.read_text(encoding='utf-8'))
            createLabelImage(polygons, 'trainIds').save(partial, format='PNG')
        os.replace(partial, target)
    except SystemExit:  # how cityscapesscripts reports an unknown class
        return prints.getvalue().partition('\n')[0].removeprefix('ERROR: ')
    except Exception as error:  # any content of a broken file; named by the caller
        return f'{type(error).__name__}: {error}'
    finally:
        partial.unlink(missing_ok=True)
    return None


def make_label_images(
    annotations: Sequence[Path], *, num_workers: int = 1
) -> Iterator[tuple[Path, str | None]]:
    """Rasterise many polygon files.

    Args:
        annotations: Polygon files.
        num_workers: Number of processes; with 1 the calling process does the work.

    Yields:
        Each polygon file, in order, with None or why it failed.

    Raises:
        ValueError: if num_workers is below 1.
        ImportError: if cityscapesscripts is missing.
    """
    if num_workers < 1:
        raise ValueError(f'num_workers must be at least 1, got {num_workers}')
    require_cityscapesscripts()
    if num_workers == 1:
        return ((x, make_label_image(x)) for x in annotations)
    return _in_processes(annotations, num_workers)


def survey(root: Path, split: str) -> SplitSurvey:
    """Find out which images, polygon files and label images a split holds."""
    annotation_folder = root / 'gtFine' / split
    return SplitSurvey(
        split=split,
        images=_frames(root / 'leftImg8bit' / split, IMAGE_SUFFIX),
        annotations=_frames(annotation_folder, ANNOTATION_SUFFIX),
        labels=_frames(annotation_folder, _LABEL_SUFFIX),
    )


def summary_of(found: SplitSurvey) -> str:
    """Summarise in a few lines what a split holds and what it lacks."""
    official = NUM_OFFICIAL_IMAGES[found.split]
    lines = [
        f'{found.split}: {len(found.images)} images (official: {official}), '
        f'{len(found.annotations)} annotations, {len(found.labels)} label images'
    ]
    if found.images:
        cities = found.num_images_of_city
        counts = ', '.join(f'{city} {count}' for city, count in cities.items())
        lines.append(f'  images of {len(cities)} cities: {counts}')
    lines += _lacks('images without annotation', found.images - found.annotations)
    lines += _lacks('annotations without image', found.annotations - found.images)
    unlabelled = found.images & found.annotations - found.labels
    lines += _lacks('annotations without label image', unlabelled)
    if len(found.images) < official:
        lines.append(f'  fewer images than published: complete with {IMAGE_ZIP}')
    if len(found.annotations) < official:
        lines.append(
            f'  fewer annotations than published: complete with {ANNOTATION_ZIP}'
        )
    return '\n'.join(lines)


def _lacks(what: str, frames: Iterable[str]) -> list[str]:
    names = sorted(frames)
    if not names:
        return []
    more = ', ...' if len(names) > 3 else ''
    return [f'  {what}: {len(names)} ({", ".join(names[:3])}{more})']


def _files(folder: Path, suffix: str) -> list[Path]:
    # macOS archives leave "._<name>" beside files, which "*" matches too.
    paths = sorted(folder.glob(f'*/*{suffix}'))
    return [x for x in paths if not x.name.startswith('.')]


def _frames(folder: Path, suffix: str) -> frozenset[str]:
    return frozenset(x.name.removesuffix(suffix) for x in _files(folder, suffix))


def _in_processes(
    annotations: Sequence[Path], num_workers: int
) -> Iterator[tuple[Path, str | None]]:
    # Ctrl-C reaches every process of the terminal; the parent alone reacts to it.
    executor = ProcessPoolExecutor(
        num_workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        errors = executor.map(make_label_image, annotations, chunksize=4)
        yield from zip(annotations, errors, strict=True)
    finally:  # an interrupted run must not first work through the queue
        executor.shutdown(cancel_futures=True)
