"""Scores of saved predictions, computed by the official Cityscapes evaluation.

The evaluation shares no code with the metric that runs during training, so it can
verify that metric. This module matches files, checks their content and calls the
evaluation as a library; tools/evaluate_cityscapes.py prints and saves the result.
"""

import contextlib
import copy
import io
import math
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from infopro_seg.datasets.cityscapes_labels import (
    ANNOTATION_ZIP,
    NUM_OFFICIAL_IMAGES,
    require_cityscapesscripts,
)
from infopro_seg.version import __version__

# The download holds no labels of the test split, only dummies without any class.
SPLITS = ('train', 'val')
TRAIN_IDS, LABEL_IDS = 'train-ids', 'label-ids'
FORMATS = (TRAIN_IDS, LABEL_IDS)

_GROUND_TRUTH_SUFFIX = '_gtFine_labelIds.png'


@dataclass(frozen=True)
class CityscapesScores:
    """Intersection over union in [0, 1]; NaN where neither side has the class.

    Args:
        split: The evaluated split.
        num_images: Number of evaluated images: all that have a ground truth.
        num_ignored_predictions: Number of predictions of images outside the split.
        class_iou: IoU of each of the 19 evaluated classes.
        category_iou: IoU of each of the 7 evaluated categories (flat, construction,
            ...).
        class_miou: Mean over the classes that are not NaN.
        category_miou: Mean over the categories that are not NaN.
    """

    split: str
    num_images: int
    num_ignored_predictions: int
    class_iou: Mapping[str, float]
    category_iou: Mapping[str, float]
    class_miou: float
    category_miou: float


def evaluate_predictions(
    root: Path, predictions: Path, *, split: str = 'val', pixel_format: str = TRAIN_IDS
) -> CityscapesScores:
    """Score a folder of predicted label images against the ground truth.

    Only a temporary folder is written to.

    Args:
        root: Folder with gtFine/.
        predictions: Folder with one single-channel PNG per image, of the image's size,
            whose name begins with ``<city>_<sequence>_<frame>``; subfolders are
            searched as well.
        split: ``train`` or ``val``.
        pixel_format: ``train-ids`` (0..18, what IoUMetric of mmseg writes) or
            ``label-ids`` (what CityscapesMetric of mmseg writes).

    Returns:
        The scores over the whole split.

    Raises:
        FileNotFoundError: if the ground truth or a prediction is missing.
        ValueError: if the split or format is unknown, an image has two predictions, or
            a prediction has the wrong size, several channels or values that contradict
            its format.
        ImportError: if cityscapesscripts is missing.
        RuntimeError: if the official evaluation fails; the message is its own.

    Source:
        ``evalPixelLevelSemanticLabeling`` of cityscapesscripts. Its scores per instance
        are left out: 2.3.0 calls ``numpy.in1d``, which numpy 2.4 no longer has.
    """
    _check_choice('split', split, SPLITS)
    _check_choice('format', pixel_format, FORMATS)
    require_cityscapesscripts()
    ground_truth = _find_ground_truth(root, split)
    predicted = _find_predictions(predictions)
    pairs = _match(ground_truth, predicted, predictions)
    for prediction, truth in pairs:
        _check_size(prediction, truth)
    to_label_ids = _converter(pixel_format)
    with tempfile.TemporaryDirectory(prefix='cityscapes_scores_') as folder:
        converted = [os.path.join(folder, x.name) for x, _ in pairs]
        for (prediction, _), path in zip(pairs, converted, strict=True):
            Image.fromarray(to_label_ids(prediction)).save(path, compress_level=1)
        result = _official_evaluation(converted, [str(truth) for _, truth in pairs])
    return _scores_of(result, split, len(pairs), len(predicted) - len(pairs))


def table_of(scores: CityscapesScores) -> str:
    """Format the scores as a table, IoU in percent."""
    rows = [*scores.class_iou.items(), None, ('class mIoU', scores.class_miou), None]
    rows += [*scores.category_iou.items(), None]
    rows += [('category mIoU', scores.category_miou)]
    lines = [f'{"":<16}{"IoU (%)":>8}']
    for row in rows:
        lines.append('-' * 24 if row is None else f'{row[0]:<16}{100 * row[1]:8.2f}')
    official = NUM_OFFICIAL_IMAGES[scores.split]
    lines.append(f'{scores.num_images} images of {scores.split} (official: {official})')
    if scores.num_images != official:
        lines.append('Not the whole split: not comparable with published numbers.')
    if scores.num_ignored_predictions:
        lines.append(
            f'{scores.num_ignored_predictions} predictions of other images were ignored'
        )
    return '\n'.join(lines)


def record_of(scores: CityscapesScores) -> dict:
    """The scores as a dict for JSON: IoU in percent, None for NaN, and versions."""
    packages = ('cityscapesscripts', 'numpy', 'pillow')
    return {
        'split': scores.split,
        'num_images': scores.num_images,
        'num_official_images': NUM_OFFICIAL_IMAGES[scores.split],
        'num_ignored_predictions': scores.num_ignored_predictions,
        'class_miou_percent': _percent(scores.class_miou),
        'category_miou_percent': _percent(scores.category_miou),
        'class_iou_percent': {k: _percent(v) for k, v in scores.class_iou.items()},
        'category_iou_percent': {
            k: _percent(v) for k, v in scores.category_iou.items()
        },
        'versions': {
            'infopro_seg': __version__,
            'python': platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }


def _check_choice(what: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ValueError(f'unknown {what} {given!r}; choose from {", ".join(allowed)}')


def _frame(path: Path) -> str:
    """Name the frame, <city>_<sequence>_<frame>, as the official evaluation does."""
    return '_'.join(path.stem.split('_')[:3])


def _find_ground_truth(root: Path, split: str) -> dict[str, Path]:
    paths = sorted((root / 'gtFine' / split).glob(f'*/*{_GROUND_TRUTH_SUFFIX}'))
    found = {_frame(x): x for x in paths if not x.name.startswith('.')}
    if not found:
        raise FileNotFoundError(
            f'no ground truth {root}/gtFine/{split}/<city>/*{_GROUND_TRUTH_SUFFIX}; '
            f'it comes with {ANNOTATION_ZIP} of the official download'
        )
    return found


def _find_predictions(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder of predictions')
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob('*.png')):
        if path.name.startswith('.'):
            continue
        other = found.setdefault(_frame(path), path)
        if other != path:
            raise ValueError(f'two predictions for one image: {other} and {path}')
    return found


def _match(
    ground_truth: Mapping[str, Path], predicted: Mapping[str, Path], folder: Path
) -> list[tuple[Path, Path]]:
    missing = [x for x in ground_truth if x not in predicted]
    if missing:
        more = ', ...' if len(missing) > 3 else ''
        raise FileNotFoundError(
            f'{folder} lacks the predictions of {len(missing)} of {len(ground_truth)} '
            f'images: {", ".join(missing[:3])}{more}. One PNG per image is needed, '
            'named like the image, as mmseg writes it with '
            'test_evaluator.output_dir=FOLDER'
        )
    return [(predicted[x], truth) for x, truth in ground_truth.items()]


def _check_size(prediction: Path, truth: Path) -> None:
    with Image.open(prediction) as ours, Image.open(truth) as theirs:
        (width, height), (true_width, true_height) = ours.size, theirs.size
        bands = len(ours.getbands())
    if bands != 1:
        raise ValueError(
            f'{prediction} has {bands} channels; needed is one, holding class ids'
        )
    if (width, height) != (true_width, true_height):
        raise ValueError(
            f'{prediction} is {width} x {height} pixels (width x height), the ground '
            f'truth {true_width} x {true_height}; predict at full resolution'
        )


def _converter(pixel_format: str) -> Callable[[Path], np.ndarray]:
    """Make the function that reads a prediction as label ids, (H, W) uint8."""
    from cityscapesscripts.helpers.labels import labels

    id_of = {x.trainId: x.id for x in labels if not x.ignoreInEval}
    other = LABEL_IDS
    if pixel_format == LABEL_IDS:
        # CityscapesMetric writes 0 (unlabeled) for what is no class.
        id_of = {x: x for x in (0, *id_of.values())}
        other = TRAIN_IDS
    table = np.zeros(256, np.uint8)
    table[list(id_of)] = list(id_of.values())

    def to_label_ids(prediction: Path) -> np.ndarray:
        try:
            with Image.open(prediction) as image:
                pixels = np.asarray(image)
        except OSError as error:
            raise ValueError(f'{prediction} cannot be read: {error}') from error
        wrong = np.setdiff1d(pixels, list(id_of))
        if wrong.size:
            raise ValueError(
                f'{prediction} holds the values {wrong[:5].tolist()}, which are not '
                f'{pixel_format} ({sorted(id_of)}); if the files hold '
                f'{other}, say --format {other}'
            )
        return table[pixels.astype(np.uint8)]

    return to_label_ids


def _official_evaluation(predictions: list[str], ground_truth: list[str]) -> dict:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    # A copy: the module's own settings are global and must not change.
    settings = copy.copy(official.args)
    settings.evalInstLevelScore = False
    settings.evalPixelAccuracy = False
    settings.JSONOutput = False  # it would go into the data set's folder
    settings.quiet = True
    prints = io.StringIO()
    try:
        with contextlib.redirect_stdout(prints):
            return official.evaluateImgLists(predictions, ground_truth, settings)
    except SystemExit as error:  # how it reports every problem
        raise RuntimeError(
            f'the evaluation of cityscapesscripts failed: {prints.getvalue().strip()}'
        ) from error


def _scores_of(
    result: dict, split: str, num_images: int, num_ignored: int
) -> CityscapesScores:
    from cityscapesscripts.helpers.labels import labels

    evaluated = [x for x in labels if not x.ignoreInEval]
    categories = dict.fromkeys(x.category for x in evaluated)
    return CityscapesScores(
        split=split,
        num_images=num_images,
        num_ignored_predictions=num_ignored,
        class_iou={x.name: result['classScores'][x.name] for x in evaluated},
        category_iou={x: result['categoryScores'][x] for x in categories},
        class_miou=result['averageScoreClasses'],
        category_miou=result['averageScoreCategories'],
    )


def _percent(iou: float) -> float | None:
    return None if math.isnan(iou) else 100 * iou
