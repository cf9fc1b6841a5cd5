"""The Pareto front of pairs of costs. Pure numbers."""

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point dominates: as low in both, and lower in one.

    Args:
        points: Pairs of costs.

    Returns:
        The front without repetitions, sorted by the first coordinate.
    """
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front
