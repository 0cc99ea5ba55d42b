"""Which source units a unit reads: receptive fields without weight sharing (§3.2 note 8, §4 notes 12-13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    channels = [int(np.prod(shape[2:])) for shape in (target_shape, source_shape)]
    return np.kron(locations, np.ones(channels, dtype=bool)).astype(bool)
