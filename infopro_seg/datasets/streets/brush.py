"""Brush strokes of the drawn streets: world shapes on an image and on its labels.

Pure numpy and OpenCV; axes and units as in ``terms.py``.
"""

import math
import random
from collections.abc import Sequence

import cv2
import numpy as np

from .terms import Camera, Colour

# OpenCV takes fixed-point coordinates: 3 bits give an eighth of a pixel.
_SHIFT = 3
_ONE = 1 << _SHIFT


class Brush:
    """Paints world shapes: anti-aliased on the image, hard-edged on the labels.

    Args:
        image: (H, W, 3) uint8, BGR; painted in place.
        labels: (H, W) uint8; painted in place.
        camera: Maps metres to pixels.
        haze: Colour into which distant things fade.
        haze_depth: Distance in metres at which 63% of a colour is haze.
        rng: Source of all random choices of the things that are painted.
    """

    def __init__(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        camera: Camera,
        *,
        haze: Colour,
        haze_depth: float,
        rng: random.Random,
    ) -> None:
        self.image = image
        self.labels = labels
        self.camera = camera
        self.haze = haze
        self.haze_depth = haze_depth
        self.rng = rng

    def pixels(self, size: float, z: float) -> float:
        """Size in pixels of ``size`` metres at the distance ``z`` metres."""
        return size * self.camera.focal / z

    def air(self, colour: Colour, z: float, gain: float = 1.0) -> Colour:
        """The colour times ``gain``, faded by ``z`` metres of haze."""
        clear = math.exp(-z / self.haze_depth)
        gain, fog = clear * gain, 1 - clear
        (b, g, r), (hb, hg, hr) = colour, self.haze
        return b * gain + hb * fog, g * gain + hg * fog, r * gain + hr * fog

    def sees(self, x: float, z: float, *, reach: float, length: float) -> bool:
        """Whether any part of a thing can be in view.

        Args:
            x: Its centre, in metres.
            z: Its nearest point, in metres.
            reach: The furthest it extends to either side of x, in metres.
            length: Its extent along the street, in metres.
        """
        width = self.labels.shape[1]
        side = self.camera.u0 if x < 0 else width - self.camera.u0
        inner = self.pixels(abs(x) - reach, z + length)
        return inner < side

    def fill(self, points: np.ndarray, colour: Colour, label: int | None) -> None:
        """Fill polygons given in pixels.

        Args:
            points: (..., N, 2) pixel coordinates (u, v) of one or more polygons with N
                corners each; parts outside the image are cut off.
            colour: BGR, painted without haze.
            label: Id to write, or None for a detail of what is already labelled.
        """
        fixed = np.rint(points * _ONE).astype(np.int32)
        self._fill(list(fixed.reshape(-1, *fixed.shape[-2:])), colour, label)

    def _fill(
        self, polygons: list[np.ndarray], colour: Colour, label: int | None
    ) -> None:
        cv2.fillPoly(self.image, polygons, colour, cv2.LINE_AA, _SHIFT)
        if label is not None:
            cv2.fillPoly(self.labels, polygons, int(label), cv2.LINE_8, _SHIFT)

    def poly(
        self,
        corners: Sequence[tuple[float, float, float]],
        colour: Colour,
        label: int | None = None,
    ) -> None:
        """Fill the polygon of world points (x, y, z), faded by the first one's z."""
        focal, u0, v0, eye = self.camera
        points = [
            (
                round((u0 + focal * x / z) * _ONE),
                round((v0 + focal * (eye - y) / z) * _ONE),
            )
            for x, y, z in corners
        ]
        seen = self.air(colour, corners[0][2])
        self._fill([np.array(points, np.int32)], seen, label)

    def rect(
        self,
        span_x: tuple[float, float],
        span_y: tuple[float, float],
        z: float,
        colour: Colour,
        label: int | None = None,
    ) -> None:
        """Fill a rectangle that faces the camera."""
        (x0, x1), (y0, y1) = span_x, span_y
        self.poly([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], colour, label)

    def plane(
        self,
        x: float,
        span_y: tuple[float, float],
        span_z: tuple[float, float],
        colour: Colour,
        label: int | None = None,
    ) -> None:
        """Fill an upright rectangle that runs along the street."""
        (y0, y1), (z0, z1) = span_y, span_z
        self.poly([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], colour, label)

    def planes(
        self,
        x: float,
        span_y: tuple[np.ndarray, np.ndarray],
        span_z: tuple[np.ndarray, np.ndarray],
        colour: Colour,
        label: int | None = None,
    ) -> None:
        """Fill many ``plane`` rectangles in one call.

        Args:
            x: The x of all rectangles, in metres.
            span_y: Lower and upper ends in metres, two arrays of one shape.
            span_z: Near and far ends in metres, two arrays of a shape that broadcasts
                with that of ``span_y``.
            colour: Before haze; all fade by the nearest z.
            label: Id to write, or None for a detail.
        """
        focal, u0, v0, eye = self.camera
        (y0, y1), (z0, z1) = span_y, span_z
        points = np.empty((*np.broadcast_shapes(y0.shape, z0.shape), 4, 2))
        for i, (y, z) in enumerate(((y0, z0), (y1, z0), (y1, z1), (y0, z1))):
            points[..., i, 0] = u0 + focal * x / z
            points[..., i, 1] = v0 + focal * (eye - y) / z
        self.fill(points, self.air(colour, float(z0.min())), label)

    def ground(
        self,
        span_x: tuple[float, float],
        span_z: tuple[float, float],
        colour: Colour,
        label: int | None = None,
    ) -> None:
        """Fill a rectangle that lies on the ground."""
        (x0, x1), (z0, z1) = span_x, span_z
        self.poly([(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)], colour, label)

    def disc(
        self,
        centre: tuple[float, float, float],
        radius: float,
        colour: Colour,
        label: int | None = None,
        *,
        squash: float = 1.0,
    ) -> None:
        """Fill an ellipse that faces the camera.

        Args:
            centre: World point (x, y, z).
            radius: Half of its height, in metres.
            colour: Before haze.
            label: Id to write, or None for a detail.
            squash: Width divided by height.
        """
        u, v = self.camera.project(*centre)
        size = self.pixels(radius, centre[2])
        at = (round(u * _ONE), round(v * _ONE))
        axes = (max(1, round(size * squash * _ONE)), max(1, round(size * _ONE)))
        seen = self.air(colour, centre[2])
        cv2.ellipse(
            self.image, at, axes, 0, 0, 360, seen, cv2.FILLED, cv2.LINE_AA, _SHIFT
        )
        if label is not None:
            cv2.ellipse(
                self.labels,
                at,
                axes,
                0,
                0,
                360,
                int(label),
                cv2.FILLED,
                cv2.LINE_8,
                _SHIFT,
            )
