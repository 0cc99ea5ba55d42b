"""The two ways a projection is stored and multiplied: all to all, or local receptive fields in tiles.

Both answer the same calls, so an engine never asks which it has. Shapes: a *row* is one case in one version; what an
area hears lies in a ring of rows, step after step, so that the gradients of several steps are one product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cortexff.engines.workspace import Take
from cortexff.equations.plasticity import weight_gradient
from cortexff.random_streams import generator
from cortexff.receptive_fields import ReceptiveField, best_tiles, channels, connection_mask

ROWS_AT_ONCE = 512  # rows whose patches are multiplied together while they are in the caches; 256 were 6 % slower


class AllToAll:
    """Weights are (subjects, target units, source units).

    mask  where there are synapses, (target units, source units); everywhere unless given
    """

    def __init__(self, source: str, source_units: int, target_units: int, mask: Tensor | None = None) -> None:
        self.source, self.source_units = source, source_units
        self.shape = (target_units, source_units)  # of one subject's weights, as stored
        self.mask = mask  # of the weights stored: 1 where there is a synapse; None where all are
        self.fan_in = np.full(target_units, source_units) if mask is None else mask.sum(1).cpu().numpy()

    @property
    def inputs(self) -> float:
        """Source units that a unit reads, on average."""
        return self.fan_in.mean().item()

    def newborn(self, name: str, seed: int, subjects: Sequence[int], shares: float, device: torch.device) -> Tensor:
        """Random weights, as stored: on input of mean square 1 a drive of variance 1 / ``shares``, (subjects, ...)."""
        scale = torch.from_numpy(1.0 / np.sqrt(self.fan_in * shares)).float().unsqueeze(-1)
        drawn = []
        for subject in subjects:
            stream, size = generator(seed, subject, f"weights/{name}"), (len(self.fan_in), self.source_units)
            matrix = torch.from_numpy(stream.standard_normal(size, dtype=np.float32))
            drawn.append(self.stored(matrix.mul_(scale)))
        weights = torch.stack(drawn).to(device)
        if self.mask is not None:
            weights *= self.mask
        return weights

    def stored(self, matrix: Tensor) -> Tensor:
        """Weights as they are stored, from the full matrix (..., target units, source units)."""
        return matrix

    def matrix(self, stored: Tensor) -> Tensor:
        """The full matrix, from weights as they are stored."""
        return stored

    def ring(self, take: Take, subjects: int, rows: int, dtype: torch.dtype) -> Tensor:
        """An array for what is heard: (subjects, rows, ...). One source has one of a kind."""
        return take(f"heard/{self.source}", (subjects, rows, self.shape[1]), dtype)

    def hear(self, ring: Tensor, place: slice, heard: Tensor) -> None:
        """Put heard activity, (subjects, rows, source units), in its place: some rows of the ring."""
        ring[:, place] = heard

    def bring(self, take: Take, weights: Tensor, heard: Tensor) -> Tensor:
        """What the projection brings to the drive, (subjects, rows, target units).

        The array is lent until a projection of the same shape is asked.

        heard  rows of the ring
        """
        shape = (*heard.shape[:2], weights.shape[-2])
        name = f"{shape[1:]}/{self.shape}"
        brought = take(f"brought/{name}", shape)
        if heard.dtype == brought.dtype:
            return torch.bmm(heard, weights.mT, out=brought)
        # Converted by itself: a sum of two precisions would make an array of its own every time.
        return brought.copy_(torch.bmm(heard, weights.mT, out=take(f"product/{name}", shape, heard.dtype)))

    def add_gradient(self, take: Take, derivative: Tensor, heard: Tensor, out: Tensor, more: bool) -> None:
        """Eq. 3 over some rows: derivative (subjects, rows, target units), and the same rows of the ring.

        out   the gradient, shaped as the weights, float32
        more  add to what ``out`` holds
        """
        if len(derivative) == 1:  # as if there were no rows beside these, or the product would copy them first
            derivative = derivative[0].unsqueeze(0)
        weight_gradient(derivative, heard, out, more, self._product(take, out, heard.dtype))

    def _product(self, take: Take, out: Tensor, dtype: torch.dtype) -> Tensor | None:
        return take(f"gradient/{tuple(out.shape)}", out.shape, dtype) if dtype != out.dtype else None


class Local(AllToAll):
    """Units read a rectangle of the source map; weights are (subjects, weights of all tiles).

    The units of a tile of neighbouring locations read one patch of the source map, and a weight is stored for each unit
    and place of the patch; those from outside a unit's own field are zero and stay so. The tiles of one column of the
    map make one product, right after their patches are copied; columns at an edge have narrower patches. What is heard
    lies in a map with a margin of zeros above and below, so that all patches of a column are one strided view.
    """

    def __init__(
        self,
        source: str,
        source_shape: Sequence[int],
        target_shape: Sequence[int],
        field: ReceptiveField,
        device: torch.device,
    ) -> None:
        self.source, self.source_shape, self.target_shape = source, tuple(source_shape), tuple(target_shape)
        self.source_units = math.prod(source_shape)
        self.rows, self.columns = best_tiles(source_shape, target_shape, field)
        self.depth, self.channels = channels(source_shape), channels(target_shape)
        firsts, ends = zip(*self.rows.patches, strict=True)
        self.above, self.below = max(0, -firsts[0]), max(0, ends[-1] - self.source_shape[0])
        self.first, self.high = firsts[0] + self.above, ends[0] - firsts[0]  # of the patches, in lines of the map
        self.apart = firsts[1] - firsts[0] if len(firsts) > 1 else 0
        # Of each column of tiles: (tile rows, units of a tile, places of a patch).
        self.tile_units = self.rows.size * self.columns.size * self.channels
        self.shapes = [
            (len(firsts), self.tile_units, self.high * (right - left) * self.depth)
            for left, right in self.columns.patches
        ]
        self.shape = (sum(math.prod(shape) for shape in self.shapes),)
        mask = connection_mask(source_shape, target_shape, field)
        self.fan_in = mask.sum(1)
        self.mask = self.stored(torch.from_numpy(mask).float()).to(device)

    def by_column(self, stored: Tensor) -> list[Tensor]:
        """Views of stored weights for each column of tiles: (..., tile rows, units of a tile, places of a patch)."""
        parts = stored.split([math.prod(shape) for shape in self.shapes], -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _tiles(self, matrix: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Column, row and weights of each tile, views of the full matrix: (..., map of the tile, map of its patch).

        The source map of the matrix has its margins.
        """
        lines = self.above + self.source_shape[0] + self.below
        matrix = matrix.unflatten(-1, (lines, self.source_shape[1], self.depth))
        matrix = matrix.unflatten(-4, (*self.target_shape[:2], self.channels))
        for column, (left, right) in enumerate(self.columns.patches):
            wide = slice(column * self.columns.size, (column + 1) * self.columns.size)
            for row in range(len(self.rows.patches)):
                high, top = slice(row * self.rows.size, (row + 1) * self.rows.size), self.first + row * self.apart
                yield column, row, matrix[..., high, wide, :, top : top + self.high, left:right, :]

    @property
    def _margins(self) -> tuple[int, int]:
        line = self.source_shape[1] * self.depth
        return self.above * line, self.below * line

    def stored(self, matrix: Tensor) -> Tensor:
        matrix = torch.nn.functional.pad(matrix, self._margins)
        tiles = [tile.flatten(-3).flatten(-4, -2) for _, _, tile in self._tiles(matrix)]
        return torch.cat([tile.flatten(-2) for tile in tiles], -1)

    def matrix(self, stored: Tensor) -> Tensor:
        before, after = self._margins
        inside = math.prod(self.source_shape)
        full = stored.new_zeros(*stored.shape[:-1], len(self.fan_in), before + inside + after)
        columns = self.by_column(stored)
        for column, row, tile in self._tiles(full):
            tile.copy_(columns[column][..., row, :, :].reshape(tile.shape))
        return full[..., before : before + inside]

    def ring(self, take: Take, subjects: int, rows: int, dtype: torch.dtype) -> Tensor:
        units = math.prod(self.source_shape) + sum(self._margins)
        return take(f"heard/{self.source}/{self.above}+{self.below}", (subjects, rows, units), dtype)

    def hear(self, ring: Tensor, place: slice, heard: Tensor) -> None:
        before = self._margins[0]
        ring[:, place, before : before + heard.shape[-1]] = heard  # the margins are zero since the ring was made

    def bring(self, take: Take, weights: Tensor, heard: Tensor) -> Tensor:
        shape = (*heard.shape[:2], len(self.fan_in))
        brought, columns = take(f"brought/{shape[1:]}", shape), self.by_column(weights)
        for subject, rows in self._parts(heard):
            part = brought[subject, rows]
            product = self._by_tile(take, "product", len(part), heard.dtype)
            for column, patches in enumerate(self._patches(take, heard[subject, rows])):
                torch.bmm(patches, columns[column][subject].mT, out=product[column])
            self._as_tiles(part).copy_(product.unflatten(-1, (self.rows.size, -1)))
        return brought

    def add_gradient(self, take: Take, derivative: Tensor, heard: Tensor, out: Tensor, more: bool) -> None:
        if not heard.shape[1] and not more:
            out.zero_()
        columns = self.by_column(out)
        for subject, rows in self._parts(heard):
            part = derivative[subject, rows]
            by_tile = self._by_tile(take, "derivative", len(part), part.dtype)
            by_tile.unflatten(-1, (self.rows.size, -1)).copy_(self._as_tiles(part))
            for column, patches in enumerate(self._patches(take, heard[subject, rows])):
                gradient = columns[column][subject]
                product = self._product(take, gradient, part.dtype)
                weight_gradient(by_tile[column], patches, gradient, more or rows.start > 0, product)

    def _parts(self, heard: Tensor) -> Iterator[tuple[int, slice]]:
        """Each subject's rows, a few at a time."""
        subjects, rows = heard.shape[:2]
        size = math.ceil(rows / max(1, math.ceil(rows / ROWS_AT_ONCE)))
        for subject in range(subjects):
            for first in range(0, rows, max(1, size)):
                yield subject, slice(first, min(first + size, rows))

    def _patches(self, take: Take, heard: Tensor) -> Iterator[Tensor]:
        """What each column of tiles hears in some rows, one after the other: (tile rows, rows, places of a patch)."""
        line, rows = self.source_shape[1] * self.depth, len(heard)
        strides = (self.apart * line, heard.stride(0), line, 1)
        for (tiles, *_), (left, right) in zip(self.shapes, self.columns.patches, strict=True):
            shape = (tiles, rows, self.high, (right - left) * self.depth)
            start = heard.storage_offset() + self.first * line + left * self.depth
            patches = _room(take, "patches", shape, rows, heard.dtype)
            yield patches.copy_(heard.as_strided(shape, strides, start)).flatten(2)

    def _by_tile(self, take: Take, what: str, rows: int, dtype: torch.dtype) -> Tensor:
        """Room for the units of all tiles: (tile columns, tile rows, rows, units of a tile)."""
        shape = (len(self.shapes), len(self.rows.patches), rows, self.tile_units)
        return _room(take, f"{what} by tile", shape, rows, dtype)

    def _as_tiles(self, rows: Tensor) -> Tensor:
        """A view of (rows, target units) tile by tile, the units of a tile in its rows."""
        maps = (len(self.rows.patches), self.rows.size, len(self.columns.patches), -1)
        return rows.unflatten(-1, maps).permute(3, 1, 0, 2, 4)


def _room(take: Take, what: str, shape: Sequence[int], rows: int, dtype: torch.dtype) -> Tensor:
    """An array of a shape with so many rows in it: the first part of one that has room for ``ROWS_AT_ONCE``."""
    size = math.prod(shape)
    room = size // rows * ROWS_AT_ONCE
    return take(f"{what}/{room}", (room,), dtype)[:size].view(shape)
