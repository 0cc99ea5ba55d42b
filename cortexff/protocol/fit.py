"""Do a protocol, a model and images go together? Asked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np

from cortexff.engines import ranks
from cortexff.engines.neurons import check_neurons
from cortexff.engines.rate import check_steps
from cortexff.engines.spiking import check_labels
from cortexff.errors import CortexffError
from cortexff.graph import has_context, hidden_areas, only_area
from cortexff.protocol.engine import most_blocks, neurons_of
from cortexff.protocol.rows import measured
from cortexff.protocol.schedule import Protocol, split_metric
from cortexff.protocol.settings import PlasticitySettings, Stage
from cortexff.stimuli.images import Images


def check_fit(protocol: Protocol, net: nx.MultiDiGraph, images: Images) -> None:
    """Model, images and every variant go together; raises CortexffError before anything is written where not."""
    labels, has_label = protocol.stimuli.labels, has_context(net)
    variants = [protocol.variant(name) for name in protocol.variants]
    # Backpropagation takes only what is bottom-up of a model (§3.1).
    if not protocol.learns_by_backprop and has_label != (labels == "context"):
        found, advice = ("a", "take it out, or give context") if has_label else ("no", "give pixels or none")
        raise CortexffError(f"stimuli.labels is {labels}, but {net.graph['source']} has {found} context area: {advice}")
    for name, variant in () if protocol.learns_by_backprop else zip(protocol.variants, variants, strict=True):
        check_steps(net, variant.engine.steps)
        for stage in variant.stages.values():
            if (engine := variant.engine_of(stage)).kind == "spiking":
                try:
                    check_neurons(neurons_of(engine), engine.damping, engine.alternating)
                except CortexffError as error:
                    others = ", ".join(other for other in protocol.variants if other != name)
                    leave_out = f" (variant {name}; without it: --set 'variants=[{others}]')" if others else ""
                    raise CortexffError(f"{error}{leave_out}") from error
                check_labels(net, neurons_of(engine))
    needed_of = {"input": (images.training_images.shape[1], "pixels"), "context": (images.classes, "labels")}
    for role, (needed, what) in needed_of.items():
        if role == "context" and labels != "context":
            continue
        area = only_area(net, role)
        units = net.nodes[area]["units"]
        if units != needed:
            raise CortexffError(
                f"image set {images.name} has {needed} {what}, but area {area} has {units} units: "
                "name another model (--model, or model in the protocol) or other stimuli.images, "
                f"or change the area in {net.graph['source']}"
            )
    if ranks.count() > 1 and any(variant.stimuli.negatives == "other_context" for variant in variants):
        raise CortexffError("stimuli.negatives other_context: a case hears the one before it, so run it in one process")
    metrics, areas = measured(protocol), hidden_areas(net)
    if len(areas) == 1 and any(variant.readout.skip_first for variant in variants):
        raise CortexffError(
            f"readout.skip_first leaves out the only hidden area of {net.graph['source']}, {areas[0]}: set it to false"
        )
    for name, variant in zip(protocol.variants, variants, strict=True):
        for stage_name, stage in variant.stages.items():
            check_stage(variant, stage, f"stages.{stage_name} (variant {name})", areas, images)
    if protocol.stimuli.jitter >= min(images.shape[:2]):
        rows, columns = images.shape[:2]
        raise CortexffError(
            f"stimuli.jitter {protocol.stimuli.jitter} can shift an image of {rows} x {columns} pixels out of sight: "
            f"give less than {min(rows, columns)}"
        )
    for metric in protocol.table.metrics:
        name, area = split_metric(metric)
        if name not in metrics:
            raise CortexffError(f"table.metrics: unknown metric '{metric}' (known: {', '.join(metrics)})")
        if area is not None and not ("area" in metrics[name].dims and area in areas):
            raise CortexffError(
                f"table.metrics: '{metric}' asks for area {area}; "
                + (f"known areas: {', '.join(areas)}" if "area" in metrics[name].dims else f"{name} has no areas")
            )
    most_blocks(protocol, net)


def check_sleeping(plasticity: PlasticitySettings, place: str, areas: Sequence[str]) -> None:
    """Areas that learn from negative data are areas of the model; raises CortexffError where not."""
    for area in plasticity.sleeping or ():
        if area not in areas:
            raise CortexffError(f"{place}.sleeping: unknown area '{area}' (known: {', '.join(areas)})")


def check_stage(protocol: Protocol, stage: Stage, place: str, areas: Sequence[str], images: Images) -> None:
    """A stage asks for areas and images that there are; raises CortexffError where not."""
    check_sleeping(protocol.plasticity_of(stage), f"{place}.plasticity", areas)
    shown, minibatch = stage.stimuli, protocol.stimuli.minibatch
    found = len(images.training_labels)
    if shown.classes is not None:
        if (unknown := max(shown.classes)) >= images.classes:
            raise CortexffError(f"{place}.stimuli.classes: {unknown} is none of 0 to {images.classes - 1}")
        found = int(np.isin(images.training_labels, shown.classes).sum())
    found = min(found, shown.remembered or found)
    if found < minibatch:
        words = f"{place}.stimuli leaves {found} training images, but stimuli.minibatch is {minibatch}"
        raise CortexffError(f"{words}: give more classes or remembered, or a smaller minibatch")
