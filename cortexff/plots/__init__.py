"""The figure sheets of a run, drawn from its results file alone.

The conditions in the file decide which: the sleep sheet where every variant was deprived of sleep and recovered
beside a control, that of separated phases where they took turns of several lengths, else learning curves; what else was
measured or kept has sheets of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from cortexff import sonata
from cortexff.errors import CortexffError
from cortexff.log import open_file
from cortexff.plots.learning import agreement_sheet, learning_sheet, oscillation_sheet, prediction_sheet
from cortexff.plots.page import STYLE, Conditions, groups_of
from cortexff.plots.pictures import hybrids_sheet, receptive_fields_sheet
from cortexff.plots.separation import has_grid, separation_sheet
from cortexff.plots.sleep import sleep_sheet
from cortexff.plots.spikes import raster_sheet, spikes_sheet

if TYPE_CHECKING:
    from cortexff.protocol.schedule import Protocol

SHEETS = {"next_character": prediction_sheet}  # of protocols with steps of their own


def draw(path: str | Path) -> list[Path]:
    """Draw the figure sheet of a results file beside it, as PNG (200 dpi) and SVG of the same name.

    What else it holds has sheets of its own: single spikes, drives from above and below, oscillations, receptive
    fields, hybrid images.

    path     a results file, of a run that is over or still going on
    returns  the paths of the pictures
    raises   CortexffError where the file holds no probes
    """
    from matplotlib import rc_context

    from cortexff.protocol.loading import from_json

    path = Path(path)
    # Not `open_results`: xarray takes some seconds to open a log, and nothing here needs more than arrays.
    with open_file(path) as file, rc_context(STYLE):
        protocol = from_json(file.attrs["settings"])
        variants = {name: _probed(file[name], protocol) for name in protocol.variants if name in file}
        variants = {name: found for name, found in variants.items() if found}
        if not variants:
            raise CortexffError(f"{path}: holds no probes to draw")
        about_sleep = all({"control", "deprived", "recovered"} <= found.keys() for found in variants.values())
        sheet = sleep_sheet if about_sleep else SHEETS.get(getattr(protocol, "experiment", None), learning_sheet)
        sheet = separation_sheet if has_grid(variants) else sheet
        sheets = {path.stem: sheet(variants, protocol, file.attrs)}
        measures = getattr(protocol, "measures", ())
        if "cancellation" in measures:
            sheets[f"{path.stem}_agreement"] = agreement_sheet(variants, file.attrs)
        if "oscillation" in measures:
            sheets[f"{path.stem}_oscillation"] = oscillation_sheet(variants, file.attrs)
        if any("firing_rate" in found for found in groups_of(variants)):
            sheets[f"{path.stem}_spikes"] = spikes_sheet(variants, protocol, file.attrs)
        for variant in variants:
            which = f"_{variant}" if len(variants) > 1 else ""
            if sonata.missing(file) is None and (trials := list(sonata.trials(file, variant))):
                sheets[f"{path.stem}_raster{which}"] = raster_sheet(trials, protocol, file.attrs)
        pictured = [
            (variant, condition, found)
            for variant, conditions in variants.items()
            for condition, found in conditions.items()
            if "receptive_fields" in found or "hybrid_examples" in found
        ]
        for variant, condition, found in pictured:
            which = f"_{variant}" if len(variants) > 1 else ""
            which += f"_{condition}" if len({other for _, other, _ in pictured}) > 1 else ""
            if "receptive_fields" in found:
                sheets[f"{path.stem}_receptive_fields{which}"] = receptive_fields_sheet(found, file.attrs)
            if "hybrid_examples" in found:  # the same in all conditions
                sheets.setdefault(f"{path.stem}_hybrids", hybrids_sheet(found, file.attrs))
        pictures = []
        for name, figure in sheets.items():
            png, svg = (path.with_name(f"{name}.{kind}") for kind in ("png", "svg"))
            figure.savefig(png)
            figure.savefig(svg, metadata={"Date": None})
            pictures += [png, svg]
    return pictures


def _probed(variant: h5py.Group, protocol: Protocol) -> Conditions:
    return {name: variant[name] for name in protocol.conditions if name in variant and len(variant[name]["update"])}
