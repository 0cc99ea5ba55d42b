"""What a run will do and roughly cost, before it starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import networkx as nx

from cortexff.engines import cost
from cortexff.protocol.runner import Segment, with_precision
from cortexff.protocol.schedule import PHASES, Protocol, probe_updates
from cortexff.stimuli.images import Images

OVERHEAD = 1.6  # time of a run over that of its matrix products, as seen on two cores


def product_rate(precision: str) -> float:
    """Multiplications and additions a second that this machine reaches on a product of moderate size."""
    import torch

    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    left, right = torch.randn(10, 100, 400).to(kind), torch.randn(10, 400, 400).to(kind)
    for _ in range(3):
        torch.bmm(left, right)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 0.3:
        torch.bmm(left, right)
        count += 1
    return count * 2 * 10 * 100 * 400 * 400 / (time.perf_counter() - started)


def describe(protocol: Protocol, net: nx.MultiDiGraph, segments: Sequence[Segment], images: Images, out: Path) -> str:
    """The schedule, the number of updates, and an estimate of time and memory, as text."""
    per_epoch = len(images.training_labels) // protocol.stimuli.minibatch
    steps, classes = protocol.engine.steps, images.classes
    lines = [f"{protocol.title}", f"model {net.graph['source']}, {protocol.subjects} subjects, results in {out}", ""]
    lines.append(f"{'condition':<24}{'stage':<14}{'phase':<13}{'updates':>9}{'probes':>8}  learning rate")
    multiplications = 0
    for segment in segments:
        settings = protocol.variant(segment.variant)
        probes = len({0} | set(probe_updates(segment.stage, segment.updates, per_epoch)))
        phases = PHASES[segment.stage.phase]
        rate = f"{settings.plasticity_of(segment.stage).learning_rate:g}" if phases else "–"
        until = f", until error ≤ {100 * segment.stage.until:g} %" if segment.stage.until is not None else ""
        lines.append(
            f"{segment.group:<24}{segment.stage_name:<14}{segment.stage.phase:<13}{segment.updates:>9}{probes:>8}  "
            f"{rate}{until}"
        )
        shown = getattr(images, f"{segment.stage.probe_on}_labels")[: segment.stage.probe_images]
        if phases:
            multiplications += segment.updates * cost.training(net, protocol.stimuli.minibatch, len(phases), steps)
        multiplications += probes * cost.testing(net, len(shown), classes + 1, steps)  # every label, and noise
    precision = with_precision(protocol, net, "cpu").engine.precision
    seconds = OVERHEAD * protocol.subjects * 2 * multiplications / product_rate(precision)
    megabytes = 4 * protocol.subjects * cost.all_synapses(net) * (3 + len(protocol.conditions)) / 1e6
    total = sum(segment.updates for segment in segments)
    lines += [
        "",
        f"{total} updates of {protocol.stimuli.minibatch} images: about {_duration(seconds)} on this machine,",
    ]
    lines.append(f"about {megabytes + 400:.0f} MB of memory ({megabytes:.0f} MB of them weights)")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
