"""The two ways a projection is stored and multiplied: all to all, or local receptive fields in tiles.

Both answer the same calls, so an engine never asks which it has. Shapes: a *row* is one case in one version; what an
area hears lies in a ring of several *places* (steps), so that the gradients of several steps are one product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cortexff.equations.plasticity import weight_gradient
from cortexff.receptive_fields import ReceptiveField, best_tiles, channels, connection_mask

Take = Callable[..., Tensor]  # (name, shape, dtype) → an array to work in: ``workspace.Workspace.lend``


class AllToAll:
    """Every target unit reads every source unit: weights are (subjects, target units, source units)."""

    mask = None

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

    def hear(self, ring: Tensor, place: int, heard: Tensor) -> None:
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
        return take(f"gradient/{self.shape}", out.shape, dtype) if dtype != out.dtype else None


class Local(AllToAll):
    """Units read a rectangle of the source map: weights are (subjects, tile columns, tile rows, tile, patch).

    The units of a tile of neighbouring locations read one patch; the weights from the part of the patch that is not in
    a unit's own field are zero and stay so. To line up patches without copying each, the source map is kept as
    *strips*, one for each column of tiles: in a strip, whatever a few rows hold is contiguous.
    """

    def __init__(
        self,
        source: str,
        source_shape: Sequence[int],
        target_shape: Sequence[int],
        field: ReceptiveField,
        device: torch.device,
        tiled: bool = True,
    ) -> None:
        self.source, self.source_shape, self.target_shape = source, source_shape, target_shape
        self.rows, self.columns = best_tiles(source_shape, target_shape, field, whole=not tiled)
        self.depth, self.channels = channels(source_shape), channels(target_shape)
        self.tile = self.rows.tile * self.columns.tile * self.channels
        self.patch = self.rows.patch * self.columns.patch * self.depth
        self.shape = (self.columns.count, self.rows.count, self.tile, self.patch)
        mask = connection_mask(source_shape, target_shape, field)
        self.fan_in = mask.sum(1)
        self.inputs = self.fan_in.mean().item()
        self.mask = self.stored(torch.from_numpy(mask).float()).to(device)
        self.width = self.columns.patch * self.depth  # units of a strip in one row
        self.places = [  # for each strip: where it lies in the map, and what of it lies on the map
            _overlap(self.columns.first + number * self.columns.step, self.columns.patch, source_shape[1])
            for number in range(self.columns.count)
        ]
        self.on_map, self.of_map = _overlap(self.rows.first, self.rows.span, source_shape[0])

    def _tiles(self, padded: Tensor) -> list[list[Tensor]]:
        """For each column and row of tiles the weights of a padded full matrix, a view.

        padded  (..., target rows, target columns, channels, source rows, source columns, channels), the source map cut
                or filled up to what the patches span
        """
        rows, columns = self.rows, self.columns
        return [
            [
                padded[
                    ...,
                    row * rows.tile : (row + 1) * rows.tile,
                    column * columns.tile : (column + 1) * columns.tile,
                    :,
                    row * rows.step : row * rows.step + rows.patch,
                    column * columns.step : column * columns.step + columns.patch,
                    :,
                ]
                for row in range(rows.count)
            ]
            for column in range(columns.count)
        ]

    def _padding(self) -> list[int]:
        """How far the patches reach beyond the source map, in the order that ``F.pad`` wants; negative where short."""
        sides = [0, 0]
        for axis, tiles in ((1, self.columns), (0, self.rows)):
            sides += [-tiles.first, tiles.first + tiles.span - self.source_shape[axis]]
        return sides

    def stored(self, matrix: Tensor) -> Tensor:
        maps = (*self.target_shape[:2], self.channels, *self.source_shape[:2], self.depth)
        tiles = self._tiles(F.pad(matrix.reshape(*matrix.shape[:-2], *maps), self._padding()))
        flat = [[block.flatten(-6, -4).flatten(-3) for block in column] for column in tiles]
        return torch.stack([torch.stack(column, -3) for column in flat], -4)

    def matrix(self, stored: Tensor) -> Tensor:
        spans = (self.rows.span, self.columns.span, self.depth)
        padded = stored.new_zeros(*stored.shape[:-4], *self.target_shape[:2], self.channels, *spans)
        for column, blocks in enumerate(self._tiles(padded)):
            for row, block in enumerate(blocks):
                block.copy_(stored[..., column, row, :, :].reshape(block.shape))
        full = F.pad(padded, [-side for side in self._padding()])
        return full.flatten(-6, -4).flatten(-3)

    def ring(self, take: Take, subjects: int, places: int, rows: int, dtype: torch.dtype) -> Tensor:
        """Strips of what is heard: (subjects, tile columns, places, rows, map rows, units of a strip in one row)."""
        shape = (subjects, self.columns.count, places, rows, self.rows.span, self.width)
        return take(f"strips/{self.source}/{self.rows}/{self.columns}", shape, dtype)  # zero beyond the map, for good

    def hear(self, ring: Tensor, place: int, heard: Tensor) -> None:
        seen = heard.unflatten(-1, (self.source_shape[0], -1))[:, :, self.of_map]
        for strip, (inside, of_map) in enumerate(self.places):
            wide = [slice(part.start * self.depth, part.stop * self.depth) for part in (inside, of_map)]
            ring[:, strip, place, :, self.on_map, wide[0]] = seen[..., wide[1]]

    def _patches(self, strip: Tensor) -> Tensor:
        """The patches of one strip (places, rows, map rows, units) as rows of a matrix: (tile rows, n, patch).

        The patches overlap; they are a view, for ``n`` rows follow one another at one distance.
        """
        n, length = strip.shape[0] * strip.shape[1], self.rows.span * self.width
        strides = (self.rows.step * self.width, length, 1)
        return strip.as_strided((self.rows.count, n, self.patch), strides)

    def add_drive(self, take: Take, drive: Tensor, weights: Tensor, ring: Tensor, place: int, out: Tensor) -> None:
        subjects, rows, _ = out.shape
        shape = (subjects, self.columns.count, self.rows.count, rows, self.tile)
        product = take(f"product/{self.shape}", shape, ring.dtype)
        for subject in range(subjects):
            for column in range(self.columns.count):
                patches = self._patches(ring[subject, column, place : place + 1])
                torch.bmm(patches, weights[subject, column].mT, out=product[subject, column])
        # (subjects, tile columns, tile rows, rows, units) → (subjects, rows, map rows, tile columns, units)
        by_map = product.unflatten(-1, (self.rows.tile, -1)).permute(0, 3, 2, 4, 1, 5)
        maps = (self.rows.count, self.rows.tile, self.columns.count, -1)
        exact = take(f"exact/{self.shape}", out.shape, out.dtype)
        exact.unflatten(-1, maps).copy_(by_map)
        torch.add(drive, exact, out=out)

    def add_gradient(self, take: Take, derivative: Tensor, ring: Tensor, first: int, out: Tensor, more: bool) -> None:
        subjects, steps, rows, _ = derivative.shape
        shape = (subjects, self.columns.count, self.rows.count, steps, rows, self.tile)
        by_tile = take(f"derivative/{self.shape}", shape, derivative.dtype)
        maps = (self.rows.count, self.rows.tile, self.columns.count, -1)
        by_tile.unflatten(-1, (self.rows.tile, -1)).copy_(derivative.unflatten(-1, maps).permute(0, 5, 3, 1, 2, 4, 6))
        product = self._product(take, out[0, 0], ring.dtype)
        for subject in range(subjects):
            for column in range(self.columns.count):
                patches = self._patches(ring[subject, column, first : first + steps])
                weight_gradient(by_tile[subject, column].flatten(1, 2), patches, out[subject, column], more, product)


def _overlap(first: int, length: int, size: int) -> tuple[slice, slice]:
    """A stretch that starts at ``first`` and an axis of some size: what they share, as a part of each."""
    low, high = max(first, 0), min(first + length, size)
    return slice(low - first, high - first), slice(low, high)
