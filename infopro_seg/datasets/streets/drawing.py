"""Procedurally drawn street scenes with the 19 Cityscapes classes.

Start at ``draw_scene``. Pure numpy and OpenCV: the mmseg data set is in ``dataset.py``,
and the painters are in one file per kind of thing.
"""

import math
import random
from collections.abc import Callable

import cv2
import numpy as np

from . import furniture, people, vehicles
from .brush import Brush
from .ground import (
    paint_buildings,
    paint_ground,
    paint_shadows,
    paint_sky,
    paint_skyline,
)
from .plan import FOOTPRINTS, make_side, place_things, shadow_boxes
from .terms import BARRIER_LENGTH, Camera, Label, Thing, vary

PAINTERS: dict[str, Callable[[Brush, Thing], None]] = {
    'bicycle': people.paint_bicycle,
    'biker': people.paint_biker,
    'bus': vehicles.paint_bus,
    'bush': furniture.paint_bush,
    'car': vehicles.paint_car,
    'clutter': furniture.paint_clutter,
    'cyclist': people.paint_cyclist,
    'fence': furniture.paint_fence,
    'motorcycle': people.paint_motorcycle,
    'person': people.paint_person,
    'pole': furniture.paint_pole,
    'traffic light': furniture.paint_traffic_light,
    'traffic sign': furniture.paint_traffic_sign,
    'train': vehicles.paint_train,
    'tree': furniture.paint_tree,
    'truck': vehicles.paint_truck,
    'wall': furniture.paint_wall,
}
# How much the surface of each label id varies, in grey levels; vegetation most.
_TEXTURE = np.full(256, 5.0, np.float32)
_TEXTURE[Label.VEGETATION] = 22
_TEXTURE[Label.TERRAIN] = 13
_TEXTURE[Label.WALL] = 10
_TEXTURE[[Label.BUILDING, Label.SIDEWALK]] = 8
_TEXTURE[Label.ROAD] = 7
_TEXTURE[Label.SKY] = 2


def draw_scene(
    height: int, width: int, *, seed: int, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street.

    The same arguments give the same scene, in any process and after any other scenes.
    With the same versions of numpy and OpenCV, they give the same bytes.

    Args:
        height: Rows of the image.
        width: Columns of the image; about twice the height looks best.
        seed: Identifies the set of scenes.
        index: Identifies the scene within its set.

    Returns:
        The image, (height, width, 3) uint8 BGR, and its labels, (height, width) uint8:
        Cityscapes train ids 0..18, and 255 for the ego vehicle and unnamed clutter.
    """
    rng = random.Random(f'{seed}/{index}')
    noise = np.random.default_rng(rng.getrandbits(64))
    camera = Camera(
        focal=height * rng.uniform(0.95, 1.5),
        u0=width * rng.uniform(0.36, 0.64),
        v0=height * rng.uniform(0.36, 0.5),
        height=rng.uniform(1.2, 1.9),
    )
    image = np.empty((height, width, 3), np.uint8)
    labels = np.empty((height, width), np.uint8)
    haze = vary(rng, (215, 210, 205), 30)
    brush = Brush(
        image, labels, camera, haze=haze, haze_depth=rng.uniform(90, 400), rng=rng
    )
    sides = make_side(rng, -1), make_side(rng, 1)
    things = place_things(rng, sides)

    paint_sky(brush, _smooth_noise(noise, labels.shape, 8))
    paint_ground(brush, sides)
    paint_shadows(brush, shadow_boxes(rng, things), depth=rng.uniform(0.3, 0.75))
    paint_skyline(brush)
    for side in sides:
        if side.is_built:
            paint_buildings(brush, side)
    paint_things(brush, things)
    if rng.random() < 0.35:
        _paint_bonnet(brush)
    return _photograph(image, labels, rng, noise), labels


def paint_things(brush: Brush, things: list[Thing]) -> None:
    """Paint all things from far to near, so that the near ones cover the far ones."""
    for thing in sorted(things, key=lambda thing: -thing.z):
        length = FOOTPRINTS.get(thing.kind, (0.0, BARRIER_LENGTH))[1]
        if brush.sees(thing.x, thing.z, reach=3.0, length=length):
            PAINTERS[thing.kind](brush, thing)


def _paint_bonnet(brush: Brush) -> None:
    """The bonnet of the ego vehicle at the lower edge; it belongs to no class."""
    rng = brush.rng
    height, width = brush.labels.shape
    top = height * rng.uniform(0.86, 0.97)
    colour = vary(rng, rng.choice(((45, 45, 45), (150, 150, 150), (80, 50, 40))), 20)
    u = np.linspace(-0.1, 1.1, 25)
    v = top + height * 0.6 * (u - rng.uniform(0.45, 0.55)) ** 2
    rim = np.stack([u * width, v], axis=1)
    corners = np.array([[1.1 * width, 1.5 * height], [-0.1 * width, 1.5 * height]])
    brush.fill(np.concatenate([rim, corners]), colour, Label.IGNORE)


def _smooth_noise(
    noise: np.random.Generator, shape: tuple[int, ...], cells: int
) -> np.ndarray:
    """(H, W) float32 noise around 0 with ``cells`` cells from top to bottom."""
    coarse = noise.standard_normal((cells, 2 * cells), np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _photograph(
    image: np.ndarray,
    labels: np.ndarray,
    rng: random.Random,
    noise: np.random.Generator,
) -> np.ndarray:
    """Add surface texture, lighting, lens blur and sensor noise.

    Returns:
        A new (H, W, 3) uint8 image; ``labels`` only set the strength of the texture.
    """
    height, width = labels.shape
    fine = cv2.resize(_grain(noise, (height // 2, width // 2)), (width, height))
    rough = fine + 0.8 * _smooth_noise(noise, labels.shape, 12)
    texture = rough * _TEXTURE[labels]

    gain = rng.choice((rng.uniform(0.8, 1.15), rng.uniform(0.45, 0.8)))
    warmth = rng.uniform(-0.12, 0.12)
    light = np.array([1 - warmth, 1.0, 1 + warmth], np.float32) * gain
    photo = cv2.add(image, cv2.merge([texture] * 3), dtype=cv2.CV_32F) * light
    photo = cv2.GaussianBlur(photo, (0, 0), height / 128 * rng.uniform(0.3, 0.7))
    photo += _grain(noise, image.shape) * np.float32(rng.uniform(1.5, 7.0))
    return np.clip(photo, 0, 255).astype(np.uint8)


def _grain(noise: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Independent uniform float32 noise, mean 0, standard deviation 1.

    Made from raw bytes: normally distributed numbers would take a third of the time of
    a scene.
    """
    raw = np.frombuffer(noise.bytes(math.prod(shape)), np.int8).reshape(shape)
    return (raw.astype(np.float32) + 0.5) / 73.9
