"""Which source units a unit reads: receptive fields without weight sharing (§3.2 note 8, §4 notes 12-13)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

# What a tile costs beside its multiplications, in units of the tile: its patch is copied, and its product is small.
UNITS_OF_OVERHEAD = 32


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
    """Along one axis: target locations in equal tiles, and for each tile the patch of source locations that it reads.

    size     target locations in a tile
    patches  first and one-past-last source location of each tile's patch; may reach beyond the map
    """

    size: int
    patches: tuple[tuple[int, int], ...]

    def cut_off(self, source: int) -> Tiles:
        """The same with patches that end at the edges of a map of ``source`` locations."""
        return Tiles(self.size, tuple((max(first, 0), min(end, source)) for first, end in self.patches))

    @property
    def are_even(self) -> bool:
        """Whether patches are equally long and equally far apart."""
        firsts, ends = np.transpose(self.patches)
        return len({*(ends - firsts)}) == 1 and len({*np.diff(firsts)}) <= 1

    @property
    def read(self) -> int:
        """Source locations of all patches together."""
        return sum(end - first for first, end in self.patches)


def tiles_along(source: int, target: int, size: int, stride: float) -> Iterator[Tiles]:
    """Every way to cut an axis into equal tiles, from single locations to all in one."""
    starts = field_starts(source, target, size, stride)
    for tile in range(1, target + 1):
        if target % tile == 0:
            by_tile = starts.reshape(-1, tile)
            firsts, ends = by_tile[:, 0], by_tile[:, -1] + size
            yield Tiles(tile, tuple(zip(firsts.tolist(), ends.tolist(), strict=True)))


def best_tiles(source_shape: Sequence[int], target_shape: Sequence[int], field: ReceptiveField) -> tuple[Tiles, Tiles]:
    """The cut into tiles, along rows and columns, whose products cost least.

    Patches are even along rows, so that one strided view shows them all (with a stride that is a fraction, tiles along
    rows may have to be larger than would be best for it), and cut off at the edges along columns. Large
    tiles multiply many zeros, for their patch holds more than the field of each of their units. Small ones copy much,
    for their patches overlap, and make small products, which processors do not do well.
    """

    def cost(rows: Tiles, columns: Tiles) -> float:
        units = rows.size * columns.size * channels(target_shape)
        return rows.read * columns.read * (units + UNITS_OF_OVERHEAD)

    rows, columns = (
        list(tiles_along(source_shape[axis], target_shape[axis], field.size[axis], field.stride[axis]))
        for axis in (0, 1)
    )
    rows = [*(tiles for tiles in rows[:-1] if tiles.are_even), rows[-1].cut_off(source_shape[0])]
    columns = [tiles.cut_off(source_shape[1]) for tiles in columns]
    return min(product(rows, columns), key=lambda tiles: cost(*tiles))
