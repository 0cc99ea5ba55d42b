"""The two ways a projection is stored and multiplied: all to all, or local receptive fields in tiles.

Both answer the same calls, so an engine never asks which it has. Shapes: a *row* is one case in one version; what an
area hears lies in a ring of several *places* (steps), so that the gradients of several steps are one product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cortexff.engines.workspace import Take
from cortexff.equations.plasticity import weight_gradient
from cortexff.receptive_fields import ReceptiveField, best_tiles, channels, connection_mask


class AllToAll:
    """Every target unit reads every source unit: weights are (subjects, target units, source units)."""

    mask: Tensor | None = None  # of the weights stored: 1 where there is a synapse; None where all are
    every_step = False  # whether gradients are added at every step, or for several steps at once

    def __init__(self, source: str, source_units: int, target_units: int) -> None:
        self.source, self.inputs = source, source_units
        self.shape = (target_units, source_units)  # of one subject's weights, as stored
        self.fan_in = np.full(target_units, source_units)

    def stored(self, matrix: Tensor) -> Tensor:
        """Weights as they are stored, from the full matrix (..., target units, source units)."""
        return matrix

    def matrix(self, stored: Tensor) -> Tensor:
        """The full matrix, from weights as they are stored."""
        return stored

    def ring(self, take: Take, subjects: int, places: int, rows: int, dtype: torch.dtype) -> Tensor:
        """An array for what is heard: here (subjects, places, rows, source units). One source has one of a kind."""
        return take(f"heard/{self.source}", (subjects, places, rows, self.shape[1]), dtype)

    def hear(self, take: Take, ring: Tensor, place: int, heard: Tensor) -> None:
        """Put heard activity, (subjects, rows, source units), in a place of the ring."""
        ring[:, place] = heard

    def add_drive(self, take: Take, drive: Tensor, weights: Tensor, ring: Tensor, place: int, out: Tensor) -> None:
        """Add what the projection brings: out = drive + weights · heard, both (subjects, rows, target units)."""
        heard = ring[:, place]
        if heard.dtype == out.dtype:
            torch.baddbmm(drive, heard, weights.mT, out=out)
        else:
            product = torch.bmm(heard, weights.mT, out=take(f"product/{self.shape}", out.shape, heard.dtype))
            # Converted first: a sum of two precisions would make an array of its own every time.
            torch.add(drive, take(f"exact/{self.shape}", out.shape, out.dtype).copy_(product), out=out)

    def add_gradient(self, take: Take, derivative: Tensor, ring: Tensor, first: int, out: Tensor, more: bool) -> None:
        """Eq. 3 over some steps: derivative (subjects, steps, rows, target units), heard at the places from ``first``.

        out   the gradient, shaped as the weights, float32
        more  add to what ``out`` holds
        """
        heard = ring[:, first : first + derivative.shape[1]]
        weight_gradient(derivative.flatten(1, 2), heard.flatten(1, 2), out, more, self._product(take, out, heard.dtype))

    def _product(self, take: Take, out: Tensor, dtype: torch.dtype) -> Tensor | None:
        return take(f"gradient/{tuple(out.shape)}", out.shape, dtype) if dtype != out.dtype else None


class Local(AllToAll):
    """Units read a rectangle of the source map; weights are (subjects, weights of all tiles).

    The units of a tile of neighbouring locations read one patch of the source map, and a weight is stored for each unit
    and place of the patch; those from outside a unit's own field are zero and stay so. The tiles of one column of the
    map make one product; columns at an edge have narrower patches. What is heard is kept patch by patch, for the last
    step alone: every step's gradient is added at once.
    """

    every_step = True

    def __init__(
        self,
        source: str,
        source_shape: Sequence[int],
        target_shape: Sequence[int],
        field: ReceptiveField,
        device: torch.device,
        tiled: bool = True,
    ) -> None:
        self.source, self.source_shape, self.target_shape = source, tuple(source_shape), tuple(target_shape)
        self.rows, self.columns = best_tiles(source_shape, target_shape, field, whole=not tiled)
        self.depth, self.channels = channels(source_shape), channels(target_shape)
        # Of each column of tiles: (tile rows, units of a tile, places of a patch).
        self.tile_units, (top, bottom) = self.rows.size * self.columns.size * self.channels, self.rows.patches[0]
        self.shapes = [
            (len(self.rows.patches), self.tile_units, (bottom - top) * (right - left) * self.depth)
            for left, right in self.columns.patches
        ]
        self.shape = (sum(math.prod(shape) for shape in self.shapes),)
        read = [range(*patch) for patch in self.rows.patches]
        self.rows_read = torch.tensor(read, device=device).flatten()  # rows of the source map, patch after patch
        self.key = f"{source}/{self.rows}/{self.columns}/{self.tile_units}"  # what has it alike shares arrays
        mask = connection_mask(source_shape, target_shape, field)
        self.fan_in = mask.sum(1)
        self.inputs = self.fan_in.mean().item()
        self.mask = self.stored(torch.from_numpy(mask).float()).to(device)

    def by_column(self, stored: Tensor) -> list[Tensor]:
        """Views of stored weights for each column of tiles: (..., tile rows, units of a tile, places of a patch)."""
        parts = stored.split([math.prod(shape) for shape in self.shapes], -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _tiles(self, matrix: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Column, row and weights of each tile, views of the full matrix: (..., map of the tile, map of its patch)."""
        maps = (*self.target_shape[:2], self.channels, *self.source_shape[:2], self.depth)
        matrix = matrix.unflatten(-1, maps[3:]).unflatten(-4, maps[:3])
        for column, (left, right) in enumerate(self.columns.patches):
            wide = slice(column * self.columns.size, (column + 1) * self.columns.size)
            for row, (top, bottom) in enumerate(self.rows.patches):
                high = slice(row * self.rows.size, (row + 1) * self.rows.size)
                yield column, row, matrix[..., high, wide, :, top:bottom, left:right, :]

    def stored(self, matrix: Tensor) -> Tensor:
        tiles = [tile.flatten(-3).flatten(-4, -2) for _, _, tile in self._tiles(matrix)]
        return torch.cat([tile.flatten(-2) for tile in tiles], -1)

    def matrix(self, stored: Tensor) -> Tensor:
        full = stored.new_zeros(*stored.shape[:-1], len(self.fan_in), math.prod(self.source_shape))
        columns = self.by_column(stored)
        for column, row, tile in self._tiles(full):
            tile.copy_(columns[column][..., row, :, :].reshape(tile.shape))
        return full

    def ring(self, take: Take, subjects: int, places: int, rows: int, dtype: torch.dtype) -> Tensor:
        """Patches of what is heard: (subjects, patches of all tiles and rows). All places are one."""
        size = sum(tiles * rows * patch for tiles, _, patch in self.shapes)
        return take(f"patches/{self.key}", (subjects, size), dtype)

    def _patches(self, ring: Tensor) -> list[Tensor]:
        """Of each column of tiles, what is heard: (subjects, tile rows, rows, places of a patch)."""
        sizes = [tiles * patch for tiles, _, patch in self.shapes]
        rows = ring.shape[1] // sum(sizes)
        parts = ring.split([size * rows for size in sizes], -1)
        return [part.unflatten(-1, (shape[0], rows, shape[2])) for part, shape in zip(parts, self.shapes, strict=True)]

    def hear(self, take: Take, ring: Tensor, place: int, heard: Tensor) -> None:
        maps = heard.unflatten(-1, (self.source_shape[0], -1))
        maps = take(f"map/{self.key}", maps.shape, ring.dtype).copy_(maps)
        shape = (*maps.shape[:2], len(self.rows_read), maps.shape[3])
        read = torch.index_select(maps, 2, self.rows_read, out=take(f"rows/{self.key}", shape, ring.dtype))
        by_tile = read.unflatten(2, (len(self.rows.patches), -1)).transpose(1, 2)
        for patches, (left, right) in zip(self._patches(ring), self.columns.patches, strict=True):
            wide = slice(left * self.depth, right * self.depth)
            patches.unflatten(-1, (by_tile.shape[3], -1)).copy_(by_tile[..., wide])

    def add_drive(self, take: Take, drive: Tensor, weights: Tensor, ring: Tensor, place: int, out: Tensor) -> None:
        product = take(f"product/{self.key}", self._tiled_shape(out), ring.dtype)
        for column, (patches, of_column) in enumerate(zip(self._patches(ring), self.by_column(weights), strict=True)):
            for subject in range(len(out)):
                torch.bmm(patches[subject], of_column[subject].mT, out=product[subject, column])
        exact = take(f"exact/{out.shape[-1]}", out.shape, out.dtype)
        self._as_tiles(exact).copy_(product.unflatten(-1, (self.rows.size, -1)))
        torch.add(drive, exact, out=out)

    def add_gradient(self, take: Take, derivative: Tensor, ring: Tensor, first: int, out: Tensor, more: bool) -> None:
        derivative = derivative.squeeze(1)
        by_tile = take(f"derivative/{self.key}", self._tiled_shape(derivative), derivative.dtype)
        by_tile.unflatten(-1, (self.rows.size, -1)).copy_(self._as_tiles(derivative))
        for column, (patches, of_column) in enumerate(zip(self._patches(ring), self.by_column(out), strict=True)):
            for subject in range(len(out)):
                part = of_column[subject]
                product = self._product(take, part, ring.dtype)
                weight_gradient(by_tile[subject, column], patches[subject], part, more, product)

    def _tiled_shape(self, rows: Tensor) -> tuple[int, ...]:
        """Shape of (subjects, rows, target units) tile by tile: (subjects, tile columns, tile rows, rows, units)."""
        return (len(rows), len(self.shapes), len(self.rows.patches), rows.shape[1], self.tile_units)

    def _as_tiles(self, rows: Tensor) -> Tensor:
        """A view of (subjects, rows, target units) tile by tile, the units of a tile in its rows."""
        maps = (len(self.rows.patches), self.rows.size, len(self.columns.patches), -1)
        return rows.unflatten(-1, maps).permute(0, 4, 2, 1, 3, 5)
