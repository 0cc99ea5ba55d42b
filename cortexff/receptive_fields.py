"""Which source units a unit reads: receptive fields without weight sharing (§3.2 note 8, §4 notes 12-13)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SMALL_PRODUCT = 16  # a product for n target units costs what one for n + 16 would, measured for n from 24 to 400


@dataclass(frozen=True)
class ReceptiveField:
    """A rectangle of locations of the source map that a location of the target map reads.

    size    (rows, columns) of the rectangle
    stride  (rows, columns) that it moves from one target location to the next; may be a fraction
    """

    size: tuple[int, int]
    stride: tuple[float, float]


def field_starts(source: int, target: int, size: int, stride: float) -> np.ndarray:
    """First source location read by each target location along one axis, (target,); may lie beyond the edge.

    The fields together lie centred on the source map.
    """
    margin = ((target - 1) * stride + size - source) / 2
    # Rounded first: a stride such as 14/3 would else put a whole number now just above itself, now just below.
    return np.floor(np.round(np.arange(target) * stride - margin, 9)).astype(int)


def every_field_is_on_map(source: int, target: int, size: int, stride: float) -> bool:
    """Whether each target location reads something; the outermost fields, as far out on either side, decide."""
    return (target - 1) * stride <= source + size - 2 + 1e-9  # the same rounding as above


def fields_along(source: int, target: int, size: int, stride: float) -> np.ndarray:
    """Which of the source locations along one axis each target location reads: bool, (target, source)."""
    starts, places = field_starts(source, target, size, stride)[:, None], np.arange(source)
    return (places >= starts) & (places < starts + size)


def connection_mask(source_shape: Sequence[int], target_shape: Sequence[int], field: ReceptiveField) -> np.ndarray:
    """Which source units each target unit reads: bool, (target units, source units).

    source_shape, target_shape  (rows, columns) or (rows, columns, channels); units are counted row by row, column by
                                column, channel by channel. Every channel of a location reads every channel of its
                                field, and a field is cut off at the edge of the map (note 12).
    """
    rows, columns = (
        fields_along(source_shape[axis], target_shape[axis], field.size[axis], field.stride[axis]) for axis in (0, 1)
    )
    locations = np.kron(rows, columns)
    return np.kron(locations, np.ones((channels(target_shape), channels(source_shape)), dtype=bool)).astype(bool)


def channels(shape: Sequence[int]) -> int:
    """Units at one location of a map."""
    return int(np.prod(shape[2:], dtype=int))


@dataclass(frozen=True)
class Tiles:
    """Along one axis: target locations in equal tiles, each of which reads one patch of source locations.

    tile   target locations in a tile
    count  tiles
    first  source location at which the first patch starts; may lie beyond the edge
    step   from the start of a patch to that of the next
    patch  source locations in a patch: all that a location of the tile reads
    """

    tile: int
    count: int
    first: int
    step: int
    patch: int

    @property
    def span(self) -> int:
        """Source locations from the first patch's first to the last one's last."""
        return (self.count - 1) * self.step + self.patch


def tiles_along(source: int, target: int, size: int, stride: float) -> Iterator[Tiles]:
    """Every way to cut an axis into tiles whose patches are alike; the last is one tile, cut off at the edges."""
    starts = field_starts(source, target, size, stride)
    for tile in range(1, target):
        if target % tile == 0:
            by_tile = starts.reshape(-1, tile)
            steps = np.diff(by_tile[:, 0])
            if (steps == steps[0]).all() and (by_tile - by_tile[:, :1] == by_tile[0] - by_tile[0, 0]).all():
                patch = int(by_tile[0, -1] - by_tile[0, 0]) + size
                yield Tiles(tile, len(by_tile), int(starts[0]), int(steps[0]), patch)
    first, end = max(int(starts[0]), 0), min(int(starts[-1]) + size, source)
    yield Tiles(target, 1, first, 0, end - first)


def best_tiles(
    source_shape: Sequence[int], target_shape: Sequence[int], field: ReceptiveField, whole: bool = False
) -> tuple[Tiles, Tiles]:
    """The cut into tiles, along rows and columns, whose products cost least.

    Large tiles multiply many zeros, for their patch holds more than the field of each of their units; small ones make
    small products, which processors do not do well.
    whole  leave the map in one piece
    """

    def cost(rows: Tiles, columns: Tiles) -> float:
        units = rows.tile * columns.tile * channels(target_shape)
        return rows.count * columns.count * rows.patch * columns.patch * (units + SMALL_PRODUCT)

    choices = [
        list(tiles_along(source_shape[axis], target_shape[axis], field.size[axis], field.stride[axis]))[-whole:]
        for axis in (0, 1)
    ]
    return min(((rows, columns) for rows in choices[0] for columns in choices[1]), key=lambda both: cost(*both))
