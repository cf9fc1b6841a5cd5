"""Vehicles of a drawn street, one function per kind.

Pure numpy and OpenCV; see ``terms.py`` for axes and units. Sizes are those of
common vehicles.
"""

from .brush import Brush
from .terms import Colour, Label, Thing, scaled, vary

PAINTS: tuple[Colour, ...] = ((40, 40, 40), (200, 200, 200), (120, 120, 120),
                              (130, 70, 40), (40, 40, 140), (80, 95, 70),
                              (90, 120, 150), (235, 235, 235))  # fmt: skip


def _box(
    brush: Brush,
    x: float,
    width: float,
    span_y: tuple[float, float],
    span_z: tuple[float, float],
    colour: Colour,
    label: int | None,
) -> float | None:
    """A box: the face towards the camera, and the visible long side.

    Returns:
        The x of the visible long side, or None if the camera is right behind the box.
    """
    x0, x1 = x - width / 2, x + width / 2
    inner = x0 if x0 > 0 else x1 if x1 < 0 else None
    if inner is not None:
        brush.plane(inner, span_y, span_z, scaled(colour, 0.75), label)
    brush.rect((x0, x1), span_y, span_z[0], colour, label)
    return inner


def _wheels(
    brush: Brush,
    x: float,
    width: float,
    inner: float | None,
    span_z: tuple[float, float],
    label: int,
) -> None:
    """Dark tyres under the face and along the visible side of a ``_box``."""
    black = (28, 28, 28)
    z, length = span_z[0], span_z[1] - span_z[0]
    for x0 in (x - width / 2, x + width / 2 - 0.3):
        brush.rect((x0, x0 + 0.3), (0, 0.35), z, black, label)
    if inner is not None:
        for at in (z + 0.15 * length, z + 0.75 * length):
            tyre = (at, at + 0.12 * length)
            brush.plane(inner, (0.0, 0.62), tyre, black, label)


def _lamps(
    brush: Brush, x: float, width: float, y: float, z: float, away: bool
) -> None:
    colour = (40, 40, 210) if away else (225, 240, 245)
    for x0 in (x - 0.46 * width, x + 0.46 * width - 0.25):
        brush.rect((x0, x0 + 0.25), (y, y + 0.18), z, colour)


def paint_car(brush: Brush, thing: Thing) -> None:
    """A passenger car: body, cabin with dark glass, wheels, lamps."""
    x, z = thing.x, thing.z
    rng = brush.rng
    paint = vary(rng, rng.choice(PAINTS), 20)
    width, length, top = rng.uniform(1.65, 1.9), rng.uniform(3.6, 4.8), 1.45
    if rng.random() < 0.25:
        top = 1.75
    glass = vary(rng, (70, 60, 55), 25)
    cabin = (z + 0.15 * length, z + 0.75 * length)
    inner = _box(brush, x, width * 0.84, (0.8, top), cabin, paint, Label.CAR)
    if inner is not None:
        side = (cabin[0] + 0.2, cabin[1] - 0.2)
        brush.plane(inner * 0.998, (0.9, top - 0.12), side, glass)
    pane = (x - 0.36 * width, x + 0.36 * width)
    brush.rect(pane, (0.88, top - 0.12), cabin[0], glass)
    inner = _box(brush, x, width, (0.12, 0.88), (z, z + length), paint, Label.CAR)
    if brush.pixels(1.5, z) > 8:
        _wheels(brush, x, width, inner, (z, z + length), Label.CAR)
        _lamps(brush, x, width, 0.6, z, thing.away)
        brush.rect((x - 0.25, x + 0.25), (0.4, 0.52), z, (190, 195, 195))


def paint_truck(brush: Brush, thing: Thing) -> None:
    """A lorry: plain cargo box, with the cab in front where it faces the camera."""
    x, z = thing.x, thing.z
    rng = brush.rng
    width, length, top = rng.uniform(2.2, 2.5), rng.uniform(5, 8), rng.uniform(2.6, 3.6)
    cargo = vary(rng, rng.choice(PAINTS + ((190, 200, 205),) * 4), 20)
    start = z if thing.away else z + 1.8
    inner = _box(brush, x, width, (0.5, top), (start, z + length), cargo, Label.TRUCK)
    if inner is not None:
        brush.plane(inner, (0.1, 0.5), (z, z + length), (45, 45, 45), Label.TRUCK)
    if thing.away:
        brush.rect(
            (x - width / 2, x + width / 2), (0.1, 0.5), z, (45, 45, 45), Label.TRUCK
        )
        brush.rect((x - 0.03, x + 0.03), (0.6, top - 0.1), z, (90, 90, 90))
    else:
        cab, high = vary(rng, rng.choice(PAINTS)), min(top, 2.7)
        _box(brush, x, width * 0.95, (0.1, high), (z, start), cab, Label.TRUCK)
        pane = (x - 0.42 * width, x + 0.42 * width)
        brush.rect(pane, (1.5, high - 0.25), z, (70, 60, 55))
    _wheels(brush, x, width, inner, (z, z + length), Label.TRUCK)
    _lamps(brush, x, width, 0.6, z, thing.away)


def paint_bus(brush: Brush, thing: Thing) -> None:
    """A bus: one high box with a band of windows."""
    x, z = thing.x, thing.z
    rng = brush.rng
    width, length, top = 2.5, rng.uniform(9, 12), rng.uniform(2.8, 3.3)
    paint = vary(rng, rng.choice(((60, 180, 220), (60, 60, 190), (150, 90, 50),
                                  (215, 215, 215), (110, 150, 90))), 20)  # fmt: skip
    inner = _box(brush, x, width, (0.15, top), (z, z + length), paint, Label.BUS)
    glass = vary(rng, (65, 55, 50), 20)
    if inner is not None:
        band = (z + 0.4, z + length - 0.4)
        brush.plane(inner, (1.3, top - 0.5), band, glass)
    low = 1.5 if thing.away else 1.0
    brush.rect((x - 1.1, x + 1.1), (low, top - 0.45), z, glass)
    brush.rect((x - 0.8, x + 0.8), (top - 0.38, top - 0.1), z, (40, 160, 200))
    _wheels(brush, x, width, inner, (z, z + length), Label.BUS)
    _lamps(brush, x, width, 0.5, z, thing.away)


def paint_train(brush: Brush, thing: Thing) -> None:
    """A tram: a long box with bevelled roof, windows and doors."""
    x, z = thing.x, thing.z
    rng = brush.rng
    for rail in (x - 0.72, x + 0.72):
        brush.ground((rail - 0.05, rail + 0.05), (1.5, z), (150, 150, 150))
    width, length, top = 2.6, rng.uniform(18, 34), rng.uniform(3.1, 3.5)
    paint = vary(rng, rng.choice(((60, 180, 220), (60, 60, 180), (210, 210, 210),
                                  (90, 130, 70))), 20)  # fmt: skip
    half = width / 2
    roof = [(x - half, top, z), (x - half + 0.5, top + 0.5, z),
            (x + half - 0.5, top + 0.5, z), (x + half, top, z)]  # fmt: skip
    brush.poly(roof, scaled(paint, 0.7), Label.TRAIN)
    inner = _box(brush, x, width, (0.15, top), (z, z + length), paint, Label.TRAIN)
    glass = vary(rng, (60, 52, 48), 15)
    if inner is not None:
        brush.plane(inner, (1.5, top - 0.5), (z + 0.5, z + length - 0.5), glass)
        brush.plane(inner, (0.15, 0.6), (z, z + length), (60, 60, 60))
        for i in range(4):
            door = z + 2 + 5 * i
            brush.plane(inner, (0.4, 2.7), (door, door + 1.3), scaled(paint, 0.5))
    brush.rect((x - 1.1, x + 1.1), (1.2, top - 0.3), z, glass)
    brush.rect((x - 0.6, x + 0.6), (top - 0.2, top + 0.15), z, (40, 160, 210))
    _lamps(brush, x, width, 0.7, z, thing.away)
