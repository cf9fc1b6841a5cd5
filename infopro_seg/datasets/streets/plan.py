"""The plan of a drawn street: its cross-section, and what stands where.

Pure Python: decides, and paints nothing. Axes and units as in ``terms.py``.
"""

import random

from .terms import BARRIER_LENGTH, Box, Side, Thing, vary

# Half width and length in metres of the footprint of a kind, for its shadow and its far
# end. Kinds without a notable shadow are left out.
FOOTPRINTS = {
    'bicycle': (0.5, 0.3),
    'biker': (0.6, 0.5),
    'bus': (1.5, 12.0),
    'car': (1.1, 4.5),
    'clutter': (0.5, 0.6),
    'cyclist': (0.5, 0.4),
    'motorcycle': (0.6, 0.5),
    'person': (0.35, 0.5),
    'train': (1.6, 34.0),
    'tree': (2.0, 3.0),
    'truck': (1.5, 8.0),
}


def make_side(rng: random.Random, sign: int) -> Side:
    """Choose the cross-section of one side of the street."""
    kerb = rng.uniform(2.2, 4.5) if sign > 0 else rng.uniform(3.0, 8.0)
    edge = kerb + rng.uniform(1.6, 4.0)
    is_built = rng.random() < 0.7
    has_terrain = rng.random() < (0.35 if is_built else 0.9)
    front = edge + (rng.uniform(1.5, 5.0) if has_terrain else 0.0)
    return Side(sign, kerb, edge, front, is_built)


def place_things(rng: random.Random, sides: tuple[Side, Side]) -> list[Thing]:
    """Fill the street: traffic between the kerbs, people and posts beside them."""
    things = _place_traffic(rng, sides)
    for side in sides:
        things += _place_beside(rng, side)
        things += _place_people(rng, side)
        if side.front > side.edge or not side.is_built:
            things += _place_plants(rng, side)
    return things


def _depth(rng: random.Random, near: float, far: float) -> float:
    """A random distance, evenly spread in the image, so that near ones are frequent."""
    return 1 / rng.uniform(1 / far, 1 / near)


def _place_traffic(rng: random.Random, sides: tuple[Side, Side]) -> list[Thing]:
    left, right = sides
    things = []
    kinds = ('car', 'truck', 'bus', 'cyclist', 'biker')
    lanes = [(-left.kerb + 1.3, False), (0.2, True)]
    if rng.random() < 0.3:
        things.append(Thing('train', -left.kerb + 1.5, _depth(rng, 9, 40), False))
        lanes = lanes[1:]
    for x, away in lanes:
        z = rng.uniform(6, 16) if away else rng.uniform(5, 30)
        while z < 110:
            kind = rng.choices(kinds, (10, 3.2, 2.6, 2.6, 2.2))[0]
            things.append(Thing(kind, x + rng.uniform(-0.4, 0.4), z, away))
            z += rng.uniform(9, 40)
    for side in sides:
        if rng.random() < 0.4:
            x, kind = side.sign * (side.kerb - 0.5), rng.choice(('cyclist', 'biker'))
            things.append(Thing(kind, x, _depth(rng, 5, 30), side.sign > 0))
        parked = side.sign * (side.kerb - 0.9)
        is_free = side is right or len(lanes) == 2  # no tram runs along this kerb
        if is_free and rng.random() < 0.4 and side.kerb > 3.0:
            z = rng.uniform(3, 12)
            while z < 60:
                if rng.random() < 0.75:
                    kind = 'car' if rng.random() < 0.9 else 'truck'
                    things.append(Thing(kind, parked, z, side.sign > 0))
                z += rng.uniform(5.5, 9)
    return things


def _place_beside(rng: random.Random, side: Side) -> list[Thing]:
    """Posts, lights, signs, trees along the kerb; parked two-wheelers; clutter."""
    kerb = side.sign * (side.kerb + 0.5)
    things = []
    gap, z = rng.uniform(12, 25), rng.uniform(5, 15)
    row = rng.choice(('pole', 'pole', 'tree'))
    while z < 90:
        things.append(Thing(row, kerb, z))
        z += gap
    for kind, chance in (('traffic light', 0.45), ('traffic sign', 0.5)):
        while rng.random() < chance:
            away = rng.random() < 0.2
            things.append(Thing(kind, kerb, _depth(rng, 6, 40), away))
    back = side.sign * (side.edge - 0.4)
    for kind, chance in (('bicycle', 0.35), ('motorcycle', 0.25), ('clutter', 0.3)):
        if rng.random() < chance:
            z = _depth(rng, 5, 25)
            for i in range(rng.randint(1, 3)):
                x = rng.choice((kerb, back))
                things.append(Thing(kind, x, z + 1.3 * i, rng.random() < 0.5))
    return things


def _place_people(rng: random.Random, side: Side) -> list[Thing]:
    things = []
    for _ in range(rng.choice((0, 1, 2, 3, 5))):
        x = side.sign * rng.uniform(side.kerb + 0.3, side.edge - 0.3)
        z = _depth(rng, 5, 60)
        things.append(Thing('person', x, z))
        if rng.random() < 0.35:
            things.append(Thing('person', x + 0.6, z + rng.uniform(-0.2, 0.2)))
    if rng.random() < 0.15:
        things.append(
            Thing('person', side.sign * rng.uniform(0, 2), _depth(rng, 8, 40))
        )
    return things


def _place_plants(rng: random.Random, side: Side) -> list[Thing]:
    """Trees and bushes on terrain, and often a wall or fence before them."""
    depth = side.front - side.edge if side.is_built else 25.0
    things = []
    for _ in range(rng.randint(3, 6) if side.is_built else rng.randint(14, 22)):
        kind = 'tree' if rng.random() < 0.6 else 'bush'
        x = side.sign * (side.edge + 0.5 + rng.uniform(0, max(0.5, depth - 0.5)))
        things.append(Thing(kind, x, rng.uniform(5, 80)))
    barrier = rng.choice(('wall', 'fence', 'wall', 'fence', None))
    if barrier:
        base = (130, 135, 145) if barrier == 'wall' else (110, 115, 115)
        colour = vary(rng, base, 50)
        start, end = rng.uniform(2, 15), rng.uniform(30, 70)
        x = side.sign * (side.edge + 0.1)
        for i in range(int((end - start) / BARRIER_LENGTH)):
            z = start + i * BARRIER_LENGTH
            things.append(Thing(barrier, x, z, colour=colour))
    return things


def shadow_boxes(rng: random.Random, things: list[Thing]) -> list[Box]:
    """Where shadows fall: footprints, all shifted the same way by the sun."""
    lean = rng.uniform(-0.8, 0.8)
    boxes = []
    for thing in things:
        if thing.kind in FOOTPRINTS and thing.z < 60:
            half, length = FOOTPRINTS[thing.kind]
            x = thing.x + lean * half
            boxes.append((x - half, x + half, thing.z - 0.1, thing.z + length))
    return boxes
