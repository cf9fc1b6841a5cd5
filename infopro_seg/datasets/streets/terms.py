"""Basic types of the drawn streets: label ids, camera, things, colours.

Pure Python. World axes, in metres: x to the right of the camera, y up from the ground,
z ahead. Colours are BGR, 0..255.
"""

import random
from enum import IntEnum
from typing import NamedTuple

Colour = tuple[float, float, float]
#: A rectangle on the ground: (x0, x1, z0, z1), in metres.
Box = tuple[float, float, float, float]
# Walls and fences are made of pieces of this length, in metres, so that each piece can
# be sorted by depth among the other things.
BARRIER_LENGTH = 4.0
_GREENS = ((45, 95, 65), (40, 80, 50), (55, 110, 95), (35, 70, 70), (60, 120, 80))


class Label(IntEnum):
    """Cityscapes train ids, the order of mmseg's ``CityscapesDataset`` classes."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    WALL = 3
    FENCE = 4
    POLE = 5
    TRAFFIC_LIGHT = 6
    TRAFFIC_SIGN = 7
    VEGETATION = 8
    TERRAIN = 9
    SKY = 10
    PERSON = 11
    RIDER = 12
    CAR = 13
    TRUCK = 14
    BUS = 15
    TRAIN = 16
    MOTORCYCLE = 17
    BICYCLE = 18
    IGNORE = 255


class Camera(NamedTuple):
    """A pinhole camera that looks along the street.

    Attributes:
        focal: Focal length in pixels.
        u0: Column of the vanishing point, in pixels.
        v0: Row of the horizon, in pixels.
        height: Height above the ground, in metres.
    """

    focal: float
    u0: float
    v0: float
    height: float

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Pixel coordinates (u, v) of the point (x, y, z) in metres, z > 0."""
        scale = self.focal / z
        return self.u0 + scale * x, self.v0 + scale * (self.height - y)


class Side(NamedTuple):
    """One side of the street; distances from the camera in metres, all positive.

    Attributes:
        sign: -1 for the left side, +1 for the right.
        kerb: Where the road ends and the sidewalk begins.
        edge: Where the sidewalk ends; terrain follows, up to ``front``.
        front: Where buildings begin; equal to ``edge`` without terrain.
        is_built: Buildings stand here; otherwise it is open ground with trees.
    """

    sign: int
    kerb: float
    edge: float
    front: float
    is_built: bool


class Thing(NamedTuple):
    """A thing in the street and its place.

    Attributes:
        kind: What it is; ``drawing.py`` knows the painter of each kind.
        x: Its centre, metres to the right of the camera.
        z: Its nearest point, metres ahead of the camera.
        away: Whether it faces away from the camera.
        colour: Used by kinds that do not choose their own.
    """

    kind: str
    x: float
    z: float
    away: bool = True
    colour: Colour = (0, 0, 0)


def scaled(colour: Colour, gain: float) -> Colour:
    """A brighter (gain > 1) or darker colour."""
    return colour[0] * gain, colour[1] * gain, colour[2] * gain


def vary(rng: random.Random, colour: Colour, amount: float = 25) -> Colour:
    """A random colour near ``colour``: up to ``amount`` brighter or darker, tinted."""
    shift = amount * (2 * rng.random() - 1)
    tint = amount / 3
    b, g, r = colour
    return (
        max(0.0, b + shift + tint * (2 * rng.random() - 1)),
        max(0.0, g + shift + tint * (2 * rng.random() - 1)),
        max(0.0, r + shift + tint * (2 * rng.random() - 1)),
    )


def green(rng: random.Random) -> Colour:
    """A random colour of plants, from yellowish to dark."""
    return vary(rng, rng.choice(_GREENS), 22)
