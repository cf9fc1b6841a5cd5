"""The static parts of a drawn street: sky, ground, shadows, buildings, skyline.

Pure numpy and OpenCV; see ``terms.py`` for axes and units.
"""

import random

import cv2
import numpy as np

from .brush import Brush
from .terms import Box, Colour, Label, Side, green, vary

# Distance in metres at which the street ends.
FAR = 140.0
# Distance in metres at which the ground and the nearest walls are cut off.
NEAR = 1.0

_FACADES: tuple[Colour, ...] = (
    (150, 165, 180),
    (120, 130, 140),
    (95, 110, 150),
    (170, 190, 205),
    (130, 150, 165),
    (90, 95, 100),
    (140, 175, 200),
    (160, 160, 155),
)


def paint_sky(brush: Brush, noise: np.ndarray) -> None:
    """Paint a sky with clouds above the horizon, brighter towards it.

    Args:
        brush: Its haze is the colour at the horizon.
        noise: (H, W) float32, smooth, with mean 0 and standard deviation about 1.
    """
    rng = brush.rng
    rows = min(brush.labels.shape[0], int(brush.camera.v0) + 4)
    overcast = rng.random()
    top = np.array(vary(rng, (215, 165, 110), 30)) * (1 - overcast)
    top += np.array(vary(rng, (195, 190, 185), 25)) * overcast
    fade = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None] ** 0.7
    sky = (top * (1 - fade) + np.array(brush.haze) * fade).astype(np.float32)
    sky = cv2.resize(sky, (brush.labels.shape[1], rows))
    clouds = np.clip(noise[:rows] * rng.uniform(0, 35), -12, 60)
    cv2.add(sky, cv2.merge([clouds] * 3), brush.image[:rows], dtype=cv2.CV_8U)
    brush.labels[:rows] = Label.SKY


def paint_ground(brush: Brush, sides: tuple[Side, Side]) -> None:
    """Paint open ground, sidewalks, the road and its markings, up to the horizon."""
    rng = brush.rng
    left, right = sides
    base = vary(rng, (95, 95, 95), 25)
    pavement = vary(rng, (135, 140, 145), 35)
    for side in sides:
        # Behind the front line is terrain on open sides and paved yards on built ones.
        built = side.is_built and side.front == side.edge
        colour = vary(rng, (90, 100, 105), 20) if built else _soil(rng)
        reach = (side.sign * side.edge, side.sign * 220.0)
        label = Label.SIDEWALK if built else Label.TERRAIN
        brush.ground(reach, (NEAR, FAR), colour, label)
        walk = (side.sign * side.kerb, side.sign * side.edge)
        brush.ground(walk, (NEAR, FAR), pavement, Label.SIDEWALK)
    brush.ground((-left.kerb, right.kerb), (NEAR, FAR), base, Label.ROAD)
    for side in sides:
        line = (side.sign * side.kerb, side.sign * (side.kerb + 0.15))
        brush.ground(line, (NEAR, FAR), vary(rng, (165, 165, 165)), Label.SIDEWALK)
    _paint_markings(brush, sides)


def _soil(rng: random.Random) -> Colour:
    if rng.random() < 0.75:
        return vary(rng, (65, 130, 110), 25)
    return vary(rng, (95, 130, 150), 25)


def _paint_markings(brush: Brush, sides: tuple[Side, Side]) -> None:
    rng = brush.rng
    left, right = sides
    white = vary(rng, (205, 210, 210), 20)
    divider = -rng.uniform(1.4, 2.0)
    if rng.random() < 0.8:
        start = rng.uniform(1, 5)
        for i in range(14):
            z = start + 6 * i
            brush.ground((divider, divider + 0.15), (z, z + 3), white)
    if rng.random() < 0.35:
        edge = right.kerb - 0.4
        brush.ground((edge, edge + 0.14), (NEAR, FAR), white)
    if rng.random() < 0.3:
        z, depth = rng.uniform(8, 25), rng.uniform(2.5, 4)
        stripes = int((left.kerb + right.kerb) / 1.1)
        for i in range(stripes):
            x = -left.kerb + 0.3 + 1.1 * i
            brush.ground((x, x + 0.55), (z, z + depth), white)


def paint_skyline(brush: Brush) -> None:
    """Close the view at the end of the street with far buildings and trees."""
    rng = brush.rng
    x = -FAR * brush.camera.u0 / brush.camera.focal
    end = x + FAR * brush.labels.shape[1] / brush.camera.focal
    while x < end:
        width = rng.uniform(10, 30)
        if rng.random() < 0.5:
            top = rng.uniform(6, 22)
            colour = vary(rng, rng.choice(_FACADES))
            brush.rect((x, x + width), (0, top), FAR, colour, Label.BUILDING)
        elif rng.random() < 0.8:
            colour = green(rng)
            for i in range(3):
                at = (x + width * (0.2 + 0.3 * i), rng.uniform(2, 5), FAR)
                radius = rng.uniform(4, 8)
                brush.disc(at, radius, colour, Label.VEGETATION, squash=1.5)
        x += width


def paint_buildings(brush: Brush, side: Side) -> None:
    """Paint a row of buildings along one side, from far to near, with gaps."""
    rng = brush.rng
    far = FAR
    while far > NEAR:
        near = max(NEAR, far - rng.uniform(9, 24))
        if rng.random() < 0.88:
            _paint_building(brush, side, near, far)
        far = near - (rng.uniform(2, 7) if rng.random() < 0.15 else 0)


def _paint_building(brush: Brush, side: Side, near: float, far: float) -> None:
    rng = brush.rng
    x = side.sign * side.front
    top = rng.uniform(6, 22)
    colour = vary(rng, rng.choice(_FACADES), 30)
    dark = rng.uniform(0.6, 1.0)
    end = (colour[0] * dark, colour[1] * dark, colour[2] * dark)
    brush.rect((x, x + side.sign * 14), (0, top), near, end, Label.BUILDING)
    brush.plane(x, (0, top), (near, far), colour, Label.BUILDING)
    if rng.random() < 0.4:
        stripe = (0, rng.uniform(2.5, 3.5))
        brush.plane(x, stripe, (near, far), vary(rng, (100, 100, 110), 50))
    _paint_windows(brush, x, top, near, far)


def _paint_windows(brush: Brush, x: float, top: float, near: float, far: float) -> None:
    """All windows of a facade in one call; none if they would be too small to see."""
    rng = brush.rng
    start = max(near, 4.0)
    pitch_z, pitch_y = rng.uniform(2.2, 4.0), rng.uniform(2.8, 3.6)
    if brush.pixels(pitch_y, far) < 2.5 or far - start < pitch_z:
        return
    z0 = np.arange(start + 0.6, far - pitch_z * 0.5, pitch_z)[:, None]
    y0 = np.arange(1.0, top - 2.0, pitch_y)[None, :]
    z1, y1 = z0 + pitch_z * rng.uniform(0.35, 0.6), y0 + rng.uniform(1.2, 1.9)
    glass = vary(rng, (75, 65, 60) if rng.random() < 0.75 else (190, 180, 165))
    brush.planes(x, (y0, y1), (z0, z1), glass)


def paint_shadows(brush: Brush, boxes: list[Box], depth: float) -> None:
    """Paint soft shadows on the ground.

    Args:
        brush: Where to paint; call it before anything stands on the ground.
        boxes: One per shadow.
        depth: Fraction of the light that is taken away, 0..1.
    """
    mask = np.zeros(brush.labels.shape, np.uint8)
    project = brush.camera.project
    for x0, x1, z0, z1 in boxes:
        corners = ((x0, z0), (x1, z0), (x1, z1), (x0, z1))
        points = np.array([project(x, 0.0, z) for x, z in corners])
        cv2.fillConvexPoly(mask, np.rint(points).astype(np.int32), 255)
    soft = cv2.blur(mask, (3, 3))
    keep = 255 - (soft * depth).astype(np.uint8)
    cv2.multiply(brush.image, cv2.merge([keep] * 3), brush.image, 1 / 255)
