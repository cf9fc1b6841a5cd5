"""Which points no other point beats. Pure numbers."""

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points for which none is as low in both coordinates and lower in one.

    Args:
        points: Pairs of costs.

    Returns:
        Without repetitions, by the first coordinate.
    """
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front
