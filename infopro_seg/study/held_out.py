"""A part of the training images in the place of the validation set, for tuning."""

from mmengine.config import Config, ConfigDict
from mmseg.registry import DATASETS

from ..settings.config import type_name
from .matrix import TRAIN_SPLIT

_HELD_OUT = 1 / 5


def hold_out(cfg: Config) -> None:
    """Validate on the last fifth of the training images, and train on the others.

    The last ones, not every fifth: neighbours of a video are nearly the same.

    Args:
        cfg: Changed in place.

    Raises:
        ValueError: if the training data wraps another data set, is a selection
            already, or is too small.
    """
    train = cfg.train_dataloader.dataset
    if not isinstance(train, dict) or {'dataset', 'datasets'} & train.keys():
        raise ValueError(
            f'validate_on: {TRAIN_SPLIT} needs a train_dataloader.dataset that wraps '
            f'no other, got {type_name(train) or "a list"}.'
        )
    if train.get('indices') is not None:
        raise ValueError(
            f'validate_on: {TRAIN_SPLIT} chooses the images itself: leave indices out '
            'of train_dataloader.dataset.'
        )
    num_images = len(DATASETS.build({**train, 'pipeline': []}))
    num_held_out = round(num_images * _HELD_OUT)
    if num_held_out < 1:
        raise ValueError(
            f'validate_on: {TRAIN_SPLIT} takes a fifth of the training images; there '
            f'are only {num_images}.'
        )
    pipeline = cfg.val_dataloader.dataset.pipeline
    held_out = {**train, 'pipeline': pipeline, 'indices': -num_held_out}
    cfg.val_dataloader.dataset = ConfigDict(held_out)
    train['indices'] = num_images - num_held_out
