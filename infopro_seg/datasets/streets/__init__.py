"""Drawn street scenes: a data set that needs no download."""

from .dataset import DrawnStreetDataset, DrawScene
from .drawing import draw_scene

__all__ = ['DrawScene', 'DrawnStreetDataset', 'draw_scene']
