"""Sheets of what has the shape of an image: receptive fields, hybrids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cortexff.graph import only_area, parse_model
from cortexff.plots.page import WIDTH, titled_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def receptive_fields_sheet(found: h5py.Group, about: Mapping[str, Any]) -> Figure:
    """Weights from the image to each of the units kept of the first subject, as in figure 2 of the paper."""
    fields = found["receptive_fields"][0]
    columns = min(10, len(fields))
    rows = -(-len(fields) // columns)
    figure = titled_page(
        WIDTH,
        0.75 + (WIDTH - 0.2) * rows / columns,
        about,
        f"{found.name[1:]}; light: excites, dark: inhibits; each unit by its own scale",
    )
    panels = _pictures(figure, rows, columns)
    for axes, field in zip(panels, _as_images(fields, about), strict=False):
        reach = np.abs(field).max() or 1.0
        axes.imshow(field / reach if field.ndim == 2 else 0.5 + 0.5 * field / reach, cmap="gray", vmin=-1, vmax=1)
    return figure


def hybrids_sheet(found: h5py.Group, about: Mapping[str, Any]) -> Figure:
    """Images, and below each its hybrid with the one before it, as in figure 1 of the paper."""
    rows = [_as_images(array, about) for array in (found["image_examples"][:], found["hybrid_examples"][0])]
    figure = titled_page(
        WIDTH, 0.75 + (WIDTH - 0.2) * 2 / len(rows[0]), about, "above: images; below: hybrids, the negative data"
    )
    pictures = np.concatenate(rows)
    low, high = min(0.0, pictures.min()), max(1.0, pictures.max())  # centred ones go below zero
    for axes, picture in zip(_pictures(figure, 2, len(rows[0])), (pictures - low) / (high - low), strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
    return figure


def _as_images(rows: np.ndarray, about: Mapping[str, Any]) -> np.ndarray:
    """Rows of pixels in the shape of the input area."""
    net = parse_model(about["model"])
    area = net.nodes[only_area(net, "input")]
    shape = area["shape"] or (1, area["units"])
    return rows.reshape(len(rows), *shape)


def _pictures(figure: Figure, rows: int, columns: int) -> Sequence[Axes]:
    """Panels without axes, row by row, that fill a sheet below its title."""
    height = figure.get_figheight()
    edges = {"left": 0.1 / WIDTH, "right": 1 - 0.1 / WIDTH, "bottom": 0.22 / height, "top": 1 - 0.5 / height}
    panels = figure.add_gridspec(rows, columns, hspace=0.06, wspace=0.06, **edges).subplots(squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    return panels
