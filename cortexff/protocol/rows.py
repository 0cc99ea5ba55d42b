"""What the log holds of a protocol: a row for every probe, pictures, and who met a criterion."""

from __future__ import annotations

import dataclasses

from cortexff.log import Variable
from cortexff.protocol import averaging, physiology
from cortexff.protocol.dynamics import MEASURES
from cortexff.protocol.probe import BACKPROP_VARIABLES, HYBRID_VARIABLES, VARIABLES
from cortexff.protocol.schedule import Protocol

ROW_VARIABLES = {
    "update": Variable(("probe",), "updates", "updates since the condition began", dtype="i8"),
    "stage": Variable(("probe",), "1", "stage of the condition", dtype="str"),
    "phase": Variable(("probe",), "1", "phase of the update before the probe; none before the first", dtype="str"),
    "age": Variable(("probe", "subject"), "updates", "updates that each subject has lived through", dtype="i8"),
    "positive_updates": Variable(("probe", "subject"), "updates", "those with positive data", dtype="i8"),
    "negative_updates": Variable(("probe", "subject"), "updates", "those with negative data", dtype="i8"),
}
WEIGHT_PATH = Variable(
    ("probe", "subject", "area"), "1", "way that the weights of an area have gone since birth", "Σ_updates ε ‖ḡ‖"
)
PICTURES = {
    "receptive_fields": Variable(
        ("subject", "unit", "pixel"), "1", "weights from the image to units of the first hidden area, evenly chosen"
    ),
    "image_examples": Variable(("example", "pixel"), "1", "the first images that were probed"),
    "hybrid_examples": Variable(("subject", "example", "pixel"), "1", "the hybrids they were told from"),
}
REACHED = Variable(("subject",), "1", "whether the subject met the stage's criterion, 'until'", dtype="i1")


def measured(protocol: Protocol, condition: str | None = None) -> dict[str, Variable]:
    """Metrics of a protocol's probes, or of a condition's."""
    of_labels = HYBRID_VARIABLES if protocol.stimuli.labels == "none" else VARIABLES
    found = dict(BACKPROP_VARIABLES if protocol.learns_by_backprop else of_labels)
    of_probes = {**MEASURES, "physiology": {**physiology.VARIABLES, "weight_path": WEIGHT_PATH}}
    of_probes["averaged"] = averaging.VARIABLES
    for asked in protocol.measures if condition is None else protocol.measures_of(condition):
        found |= of_probes.get(asked, {})
    # Updates and stage are coordinates, so that xarray plots against them.
    return {name: dataclasses.replace(variable, coordinates="update stage") for name, variable in found.items()}


def row_variables(protocol: Protocol, condition: str | None = None) -> dict[str, Variable]:
    """What the log holds of every probe of a protocol, or of a condition."""
    return ROW_VARIABLES | measured(protocol, condition)
