"""State: what flows from one unit to the next, and the wall between local modules."""

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Maps = Tensor | tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True)
class State:
    """What flows from one unit to the next.

    Args:
        x: The output of the last unit: an image or map (N, C, h, w), tokens (N, L, C)
            with any extra tokens (class token) in front, or a tuple of maps for
            networks with several branches.
        grid: Rows and columns of the token grid if ``x`` is tokens, else None.
        outputs: The stage outputs so far, in the order of the backbone's own output. An
            output of several tensors (map and class token) is a tuple. Behind a wall,
            an output that nobody reads is None.
        skips: Maps that later units need besides ``x``, last in first out. A unit reads
            only those that it pops.
        is_bare: Whether the backbone returns its only output without a tuple.
    """

    x: Maps
    grid: tuple[int, int] | None = None
    outputs: tuple[Maps | None, ...] = ()
    skips: tuple[Maps, ...] = ()
    is_bare: bool = False

    def step(self, x: Maps, *, emits: bool = False) -> 'State':
        """The state after a unit returned ``x``; ``emits`` makes it a stage output."""
        state = dataclasses.replace(self, x=x)
        return state.emit(x) if emits else state

    def on_grid(self, x: Maps, grid: tuple[int, int] | None) -> 'State':
        """The state after a unit returned tokens on a grid, or a map (grid None)."""
        return dataclasses.replace(self, x=x, grid=grid)

    def emit(self, output: Maps) -> 'State':
        """The state with one more stage output; ``x`` goes on unchanged."""
        return dataclasses.replace(self, outputs=(*self.outputs, output))

    def push(self, skip: Maps) -> 'State':
        """The state with a map put aside for a later unit."""
        return dataclasses.replace(self, skips=(*self.skips, skip))

    def pop(self) -> tuple[Maps, 'State']:
        """The map that was put aside last, and the state without it."""
        return self.skips[-1], dataclasses.replace(self, skips=self.skips[:-1])

    def detach(self) -> 'State':
        """The wall: the same values, detached.

        Returns:
            A state whose tensors share storage with this one and need no gradient.
        """
        return dataclasses.replace(
            self,
            x=_detach(self.x),
            outputs=tuple(
                None if out is None else _detach(out) for out in self.outputs
            ),
            skips=tuple(_detach(skip) for skip in self.skips),
        )

    def keep(self, reads: Collection[int] | None) -> 'State':
        """The state without the stage outputs that nobody reads later.

        Args:
            reads: Indices of the outputs that are read; None keeps all. Skips are
                always kept.
        """
        if reads is None:
            return self
        outputs = (out if i in reads else None for i, out in enumerate(self.outputs))
        return dataclasses.replace(self, outputs=tuple(outputs))

    def feature_map(self) -> Tensor:
        """A view of ``x`` as one map, for a local head.

        Returns:
            (N, C, h, w), with gradient. Tokens are laid out on their grid; several
            branches are resized to the finest one and concatenated, so that a loss on
            the map reaches every branch.
        """
        if isinstance(self.x, Tensor):
            return self.as_map(self.x)
        finest = max(self.x, key=lambda branch: branch.shape[-2] * branch.shape[-1])
        size = finest.shape[-2:]
        return torch.cat(
            [
                branch
                if branch.shape[-2:] == size
                else functional.interpolate(
                    branch, size=size, mode='bilinear', align_corners=False
                )
                for branch in self.x
            ],
            dim=1,
        )

    def as_map(self, x: Tensor) -> Tensor:
        """Lay tokens out on the grid of this state.

        Args:
            x: Tokens (N, L, C) with L >= rows * columns, of which extra ones in front
                are dropped; or a map if the state has no grid.

        Returns:
            (N, C, rows, columns), a view where possible; or the map itself.
        """
        if self.grid is None:
            return x
        rows, columns = self.grid
        tokens = x[:, x.shape[1] - rows * columns :]
        return tokens.transpose(1, 2).reshape(x.shape[0], -1, rows, columns)

    def tensors(self) -> Iterator[Tensor]:
        """All tensors of the state; one with several roles is repeated."""
        for maps in (self.x, *self.skips, *self.outputs):
            if isinstance(maps, Tensor):
                yield maps
            elif maps is not None:
                yield from maps

    @property
    def requires_grad(self) -> bool:
        """Whether any part of ``x`` requires a gradient."""
        maps = (self.x,) if isinstance(self.x, Tensor) else self.x
        return any(branch.requires_grad for branch in maps)

    def result(self) -> Any:
        """What the backbone's own ``forward`` would have returned."""
        return self.outputs[0] if self.is_bare else self.outputs


def _detach(x: Maps) -> Maps:
    return x.detach() if isinstance(x, Tensor) else tuple(b.detach() for b in x)
