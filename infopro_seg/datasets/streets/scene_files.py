"""Names of drawn scenes, and a file backend that lets stock code open them.

A scene has no file, but its name holds all that is needed to draw it, such as
``drawn://128x256/seed-3_000017.png``, or ``..._labels.png`` for its labels. Through the
backend, mmseg's loaders and its visualization hook read such names like files.
"""

import re

import cv2
import numpy as np
from mmengine.fileio import BaseStorageBackend, register_backend

from .drawing import draw_scene

_NAME = re.compile(r'drawn://(\d+)x(\d+)/seed-(\d+)_(\d+)(_labels)?\.png')


def scene_name(
    height: int, width: int, *, seed: int, index: int, is_labels: bool = False
) -> str:
    """The name of a scene's image, or of its labels.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        seed: Identifies the set of scenes, 0 or more.
        index: Identifies the scene within its set, 0 or more.
        is_labels: Whether to name the labels, not the image.
    """
    ending = '_labels' if is_labels else ''
    return f'drawn://{height}x{width}/seed-{seed}_{index:06d}{ending}.png'


def draw_named(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw the scene with a given name.

    Args:
        name: From ``scene_name``, of the image or of the labels.

    Returns:
        Image (H, W, 3) uint8 BGR and labels (H, W) uint8; see ``draw_scene``.

    Raises:
        ValueError: if the name is not that of a drawn scene.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f'{name!r} does not name a drawn scene, such as '
            f"'{scene_name(128, 256, seed=3, index=17)}'; DrawScene and the drawn:// "
            'file backend serve DrawnStreetDataset only'
        )
    height, width, seed, index = (int(part) for part in match.groups()[:4])
    return draw_scene(height, width, seed=seed, index=index)


# force: a reloaded module may register again.
@register_backend('drawn', force=True, prefixes='drawn')
class DrawnSceneBackend(BaseStorageBackend):
    """Reads ``drawn://`` names as PNG files, so that no pixel changes."""

    def get(self, filepath: str) -> bytes:
        """PNG bytes of the image or, for a ``_labels`` name, of the labels.

        Raises:
            ValueError: if the name is not that of a drawn scene.
        """
        image, labels = draw_named(str(filepath))
        is_labels = str(filepath).endswith('_labels.png')
        return cv2.imencode('.png', labels if is_labels else image)[1].tobytes()

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Drawn scenes are never text.

        Raises:
            ValueError: always.
        """
        raise ValueError(f'{filepath!r} is an image; read it with get, not get_text')
