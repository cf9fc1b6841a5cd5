"""People and their two-wheelers in a drawn street.

Pure numpy and OpenCV; see ``terms.py`` for axes and units.
"""

from .brush import Brush
from .terms import Label, Thing, vary
from .vehicles import PAINTS

_CLOTHES = ((60, 50, 45), (120, 80, 50), (50, 50, 130), (160, 160, 165), (70, 95, 70),
            (30, 30, 35), (60, 140, 180), (130, 110, 140))  # fmt: skip


def _figure(
    brush: Brush, x: float, z: float, *, foot: float, head: float, label: int
) -> None:
    """Trousers, coat and head of a person between two heights in metres."""
    rng = brush.rng
    size = head - foot
    hip, neck = foot + 0.47 * size, foot + 0.86 * size
    half, stride = rng.uniform(0.11, 0.14) * size, rng.uniform(0, 0.16) * size
    trousers, coat = (vary(rng, rng.choice(_CLOTHES), 25) for _ in range(2))
    for step in (-stride, stride):
        leg = [(x - half * 0.8, hip, z), (x + half * 0.8, hip, z),
               (x + step + 0.07, foot, z), (x + step - 0.07, foot, z)]  # fmt: skip
        brush.poly(leg, trousers, label)
    torso = [(x - half, hip - 0.05, z), (x + half, hip - 0.05, z),
             (x + half * 1.15, neck - 0.06, z), (x, neck + 0.03, z),
             (x - half * 1.15, neck - 0.06, z)]  # fmt: skip
    brush.poly(torso, coat, label)
    skin = vary(rng, (110, 145, 190), 45)
    at = (x, foot + 0.93 * size, z)
    brush.disc(at, 0.075 * size, skin, label, squash=0.8)
    if brush.pixels(size, z) > 16:
        hair = (x, foot + 0.965 * size, z)
        brush.disc(hair, 0.045 * size, vary(rng, (40, 45, 55), 30), squash=1.3)


def paint_person(brush: Brush, thing: Thing) -> None:
    """An adult or a child on foot."""
    x, z = thing.x, thing.z
    size = brush.rng.uniform(1.5, 1.92) if brush.rng.random() < 0.85 else 1.15
    _figure(brush, x, z, foot=0.0, head=size, label=Label.PERSON)


def paint_bicycle(brush: Brush, thing: Thing) -> None:
    """A bicycle seen from the side or at an angle: two wheels, frame, handlebar."""
    x, z = thing.x, thing.z
    rng = brush.rng
    turn = rng.uniform(0.3, 1.0)
    paint, tyre = vary(rng, rng.choice(PAINTS), 30), vary(rng, (55, 55, 55), 20)
    reach = 0.52 * turn
    for at in (x - reach, x + reach):
        brush.disc((at, 0.34, z), 0.35, tyre, Label.BICYCLE, squash=turn)
        if brush.pixels(0.35, z) > 4:
            brush.disc((at, 0.34, z), 0.26, (110, 112, 115), squash=turn)
    frame = [(x - reach, 0.34, z), (x - 0.4 * reach, 0.88, z),
             (x + 0.7 * reach, 0.85, z), (x - 0.1 * reach, 0.36, z)]  # fmt: skip
    brush.poly(frame, paint, Label.BICYCLE)
    bar = (x + 0.62 * reach, x + 0.85 * reach)
    brush.rect(bar, (0.34, 1.02), z, tyre, Label.BICYCLE)


def paint_motorcycle(brush: Brush, thing: Thing) -> None:
    """A motorcycle: two fat wheels, tank and seat, lamp."""
    x, z = thing.x, thing.z
    rng = brush.rng
    turn = rng.uniform(0.35, 1.0)
    paint = vary(rng, rng.choice(PAINTS), 30)
    reach = 0.7 * turn
    for at in (x - reach, x + reach):
        brush.disc((at, 0.32, z), 0.33, (32, 32, 32), Label.MOTORCYCLE, squash=turn)
    body = [(x - 1.25 * reach, 0.8, z), (x - 0.2 * reach, 0.75, z),
            (x + 0.2 * reach, 1.0, z), (x + 0.9 * reach, 0.95, z),
            (x + 0.7 * reach, 0.35, z), (x - 0.6 * reach, 0.3, z)]  # fmt: skip
    brush.poly(body, paint, Label.MOTORCYCLE)
    brush.rect((x - 0.3 * reach, x + 0.3 * reach), (0.3, 0.55), z, (70, 70, 70))
    lamp = (40, 40, 200) if thing.away else (215, 235, 240)
    brush.disc((x + reach, 0.95, z), 0.1, lamp, Label.MOTORCYCLE)


def paint_cyclist(brush: Brush, thing: Thing) -> None:
    """A rider on a bicycle."""
    paint_bicycle(brush, thing)
    head = brush.rng.uniform(1.6, 1.85)
    _figure(brush, thing.x, thing.z, foot=0.35, head=head, label=Label.RIDER)


def paint_biker(brush: Brush, thing: Thing) -> None:
    """A rider on a motorcycle, with a helmet."""
    paint_motorcycle(brush, thing)
    _figure(brush, thing.x, thing.z, foot=0.4, head=1.6, label=Label.RIDER)
    helmet = vary(brush.rng, (60, 60, 60), 40)
    brush.disc((thing.x, 1.52, thing.z), 0.15, helmet, Label.RIDER)
