"""Posts, signs, plants, walls and fences of a drawn street.

Pure numpy and OpenCV; see ``terms.py`` for axes and units.
"""

import numpy as np

from .brush import Brush
from .terms import BARRIER_LENGTH, Colour, Label, Thing, green, scaled, vary
from .vehicles import PAINTS

_METAL = (105, 105, 100)
# Rim and face of each kind of traffic sign.
_SIGNS: tuple[tuple[Colour, Colour], ...] = (
    ((50, 50, 200), (230, 230, 230)),
    ((50, 50, 200), (60, 60, 205)),
    ((160, 90, 40), (165, 95, 45)),
    ((60, 190, 225), (70, 205, 235)),
)


def paint_wall(brush: Brush, thing: Thing) -> None:
    """A piece of a wall along the street, ``BARRIER_LENGTH`` long."""
    span_z = (thing.z, thing.z + BARRIER_LENGTH)
    brush.plane(thing.x, (0, 1.7), span_z, thing.colour, Label.WALL)
    rim = scaled(thing.colour, 1.2)
    brush.plane(thing.x, (1.6, 1.75), span_z, rim, Label.WALL)


def paint_fence(brush: Brush, thing: Thing) -> None:
    """A piece of a fence along the street: rails, pickets, dark gaps."""
    x, z = thing.x, thing.z
    far = z + BARRIER_LENGTH
    brush.plane(x, (0.05, 1.15), (z, far), scaled(thing.colour, 0.5), Label.FENCE)
    for low in (0.25, 1.0):
        brush.plane(x, (low, low + 0.12), (z, far), thing.colour)
    pickets = np.linspace(z, far, 8 if brush.pixels(1.0, z) > 8 else 4, False)
    bottom = np.full_like(pickets, 0.05)
    brush.planes(
        x, (bottom, bottom + 1.2), (pickets, pickets + 0.1), thing.colour, Label.FENCE
    )


def paint_pole(brush: Brush, thing: Thing) -> None:
    """A lamp post with an arm over the street, or a plain post."""
    x, z = thing.x, thing.z
    rng = brush.rng
    top = rng.uniform(5, 8)
    metal = vary(rng, _METAL, 40)
    brush.rect((x - 0.08, x + 0.08), (0, top), z, metal, Label.POLE)
    if rng.random() < 0.7:
        tip = x - (1.6 if x > 0 else -1.6)
        brush.rect((min(x, tip), max(x, tip)), (top - 0.1, top), z, metal, Label.POLE)


def paint_traffic_light(brush: Brush, thing: Thing) -> None:
    """A dark box with one of three lamps lit, on a post or an arm."""
    x, z = thing.x, thing.z
    rng = brush.rng
    metal = vary(rng, _METAL, 30)
    low, at = rng.uniform(2.3, 2.9), x
    brush.rect((x - 0.07, x + 0.07), (0, low + 1.0), z, metal, Label.POLE)
    if rng.random() < 0.35:
        low, at = 4.8, x - (2.2 if x > 0 else -2.2)
        brush.rect((x - 0.07, x + 0.07), (0, 5.9), z, metal, Label.POLE)
        arm = (min(x, at), max(x, at))
        brush.rect(arm, (5.75, 5.9), z, metal, Label.POLE)
    box = (at - 0.2, at + 0.2)
    dark = vary(rng, (45, 50, 45), 15)
    brush.rect(box, (low, low + 1.05), z, dark, Label.TRAFFIC_LIGHT)
    if not thing.away:
        lit = rng.choice((((60, 60, 235), 0.85), ((60, 190, 240), 0.52),
                          ((120, 220, 90), 0.2)))  # fmt: skip
        brush.disc((at, low + lit[1], z), 0.14, lit[0])


def paint_traffic_sign(brush: Brush, thing: Thing) -> None:
    """A round, triangular or square sign on a post; grey where seen from behind."""
    x, z = thing.x, thing.z
    rng = brush.rng
    y, size = rng.uniform(2.1, 2.8), rng.uniform(0.28, 0.42)
    brush.rect((x - 0.05, x + 0.05), (0, y), z, vary(rng, _METAL, 30), Label.POLE)
    rim, face = rng.choice(_SIGNS)
    if thing.away:
        rim = face = vary(rng, (140, 140, 140), 20)
    shape = rng.random()
    for colour, part, label in ((rim, 1.0, Label.TRAFFIC_SIGN), (face, 0.68, None)):
        half = size * part
        if shape < 0.45:
            brush.disc((x, y, z), half, colour, label)
        elif shape < 0.7:
            points = [(x - half, y - 0.7 * half, z), (x + half, y - 0.7 * half, z),
                      (x, y + half, z)]  # fmt: skip
            brush.poly(points, colour, label)
        else:
            brush.rect((x - half, x + half), (y - half, y + half), z, colour, label)


def paint_tree(brush: Brush, thing: Thing) -> None:
    """A trunk and a crown of overlapping tufts, lit from above."""
    x, z = thing.x, thing.z
    rng = brush.rng
    low, radius = rng.uniform(2.2, 3.5), rng.uniform(1.2, 2.6)
    trunk, leaf = vary(rng, (55, 70, 85), 20), green(rng)
    brush.rect((x - 0.15, x + 0.15), (0, low + 0.5), z, trunk, Label.VEGETATION)
    tufts = 7 if brush.pixels(radius, z) > 12 else 4
    for i in range(tufts):
        part, up = radius * rng.uniform(0.45, 0.7), i / (tufts - 1)
        at = (x + rng.uniform(-0.6, 0.6) * radius, low + radius * (0.3 + 1.3 * up), z)
        brush.disc(at, part, scaled(leaf, 0.75 + 0.5 * up), Label.VEGETATION)


def paint_bush(brush: Brush, thing: Thing) -> None:
    """A low bush."""
    x, z = thing.x, thing.z
    rng = brush.rng
    leaf = green(rng)
    for i in range(3):
        at = (x + 0.6 * (i - 1), rng.uniform(0.3, 0.6), z)
        radius = rng.uniform(0.5, 0.9)
        brush.disc(at, radius, leaf, Label.VEGETATION, squash=1.2)


def paint_clutter(brush: Brush, thing: Thing) -> None:
    """A bin, box or board that no class describes: labelled as ignored."""
    x, z = thing.x, thing.z
    rng = brush.rng
    half, top = rng.uniform(0.2, 0.6), rng.uniform(0.7, 1.5)
    colour = vary(rng, rng.choice(PAINTS), 40)
    brush.rect((x - half, x + half), (0, top), z, colour, Label.IGNORE)
