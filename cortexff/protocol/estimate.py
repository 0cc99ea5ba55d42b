"""What a run will do and roughly cost, before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import networkx as nx

from cortexff.engines import cost
from cortexff.engines.spiking import backend_for
from cortexff.protocol.plan import Segment
from cortexff.protocol.progress import duration
from cortexff.protocol.schedule import Protocol, learns, probe_updates
from cortexff.protocol.settings import PHASES, Engine
from cortexff.stimuli.images import Images

WEIGHTS_TIMED = 20_000_000  # at most, or one subject's: the others take as long
SAMPLES = 5
RUN_OVER_ENGINE, SECONDS_TO_START = 1.1, 4.0  # as seen on two cores

_timed: dict[tuple, tuple[dict[str, float], float]] = {}  # points of a sweep often take alike


def seconds_of(
    protocol: Protocol, net: nx.MultiDiGraph, phases: Collection[str], classes: int, device: str = "cpu"
) -> tuple[dict[str, float], float]:
    """How long the engine takes on this machine for all subjects, timed on random images.

    returns  phase → seconds of an update; seconds of a probe for each of its images
    """
    parts = (protocol.engine, protocol.backprop, protocol.stimuli)
    key = (net.graph["text"], protocol.subjects, *(part.model_dump_json() for part in parts), *sorted(phases), device)
    if key not in _timed:
        _timed[key] = _time(protocol, net, phases, classes, device)
    return _timed[key]


def _time(
    protocol: Protocol, net: nx.MultiDiGraph, phases: Collection[str], classes: int, device: str
) -> tuple[dict[str, float], float]:
    from cortexff.engines.rehearsal import BackpropRehearsal, Rehearsal, Stopwatch
    from cortexff.protocol.engine import engine_of
    from cortexff.protocol.probe import ROWS_AT_ONCE

    engine = engine_of(protocol, net, device)
    subjects = min(protocol.subjects, max(1, WEIGHTS_TIMED // _weights(protocol, net)))
    state = engine.start(0, range(subjects))

    def seconds(work: Callable[[], object]) -> float:
        watch = Stopwatch(work, device)
        for _ in range(SAMPLES):
            watch.sample()
        return watch.median * protocol.subjects / subjects

    batch = protocol.stimuli.minibatch
    if protocol.learns_by_backprop:
        tested = max(1, ROWS_AT_ONCE // subjects)
        learning, testing = (BackpropRehearsal(engine, state, cases, classes) for cases in (batch, tested))
        return dict.fromkeys(phases, seconds(learning.update)), seconds(testing.test) / tested
    versions = protocol.versions(classes)
    rows = ROWS_AT_ONCE if protocol.engine.kind == "rate" else ROWS_AT_ONCE // 10  # spikes take their time
    tested = max(1, rows // (subjects * versions))  # as many as a probe takes at once
    learning, testing = (Rehearsal(engine, state, cases, versions) for cases in (batch, tested))
    updates = {phase: seconds(partial(learning.update, PHASES[phase])) for phase in phases}
    # A probe lets every image settle with every label and through all steps, and noise with one label.
    probe = seconds(partial(testing.test, (1, max(protocol.engine.steps, 1)))) * (versions + 1) / versions
    return updates, probe / tested


def describe(
    protocol: Protocol,
    net: nx.MultiDiGraph,
    segments: Sequence[Segment],
    images: Images,
    out: Path,
    device: str = "cpu",
) -> Iterator[str]:
    """The schedule, as text; then, once the engine has been timed, the number of updates, time and memory."""
    per_epoch = len(images.training_labels) // protocol.stimuli.minibatch
    variants = {name: protocol.variant(name) for name in protocol.variants}
    engines = {segment: variants[segment.variant].engine_of(segment.stage) for segment in segments}
    probes = {segment: len({0} | set(probe_updates(segment.stage, segment.updates, per_epoch))) for segment in segments}
    learning = {phase for segment in segments for phase in segment.stage.phases if PHASES[phase]}
    about = f"images {images.name}, model {net.graph['source']}, {protocol.subjects} subjects, results in {out}"
    lines = [protocol.title, about, ""]
    wide = max(24, *(len(segment.group) + 2 for segment in segments))
    named = max(14, *(len(segment.stage_name) + 2 for segment in segments))
    lines.append(f"{'condition':<{wide}}{'stage':<{named}}{'phase':<13}{'updates':>9}{'probes':>8}  learning rate")
    for segment in segments:
        settings = variants[segment.variant].plasticity_of(segment.stage)
        rate = f"{settings.learning_rate:g}" if learning.intersection(segment.stage.phases) else "–"
        until = f", until error ≤ {100 * segment.stage.until:g} %" if segment.stage.until is not None else ""
        lines.append(
            f"{segment.group:<{wide}}{segment.stage_name:<{named}}{segment.stage.phase:<13}{segment.updates:>9}"
            f"{probes[segment]:>8}  {rate}{until}"
        )
    compiled = {engine for segment, engine in engines.items() if _is_compiled(engine, segment, device)}
    if compiled:
        kinds = "one kind" if len(compiled) == 1 else f"up to {len(compiled)} kinds"
        lines += ["", f"{kinds} of spiking units, compiled where they have not been: about a minute each"]
    yield "\n".join([*lines, ""])

    seconds = SECONDS_TO_START
    timed = {segment: _timed_as(engine) for segment, engine in engines.items()}
    for segment, engine in timed.items():
        phases = {p for other in segments if timed[other] == engine for p in other.stage.phases} & learning
        alike = protocol.model_copy(update={"engine": engine})
        of_update, of_image = seconds_of(alike, net, phases, images.classes, device)
        shown = getattr(images, f"{segment.stage.probe_on}_labels")[: segment.stage.probe_images]
        of_phases = Counter(map(segment.stage.phase_at, range(segment.updates)))
        seconds += RUN_OVER_ENGINE * sum(count * of_update.get(phase, 0.0) for phase, count in of_phases.items())
        seconds += RUN_OVER_ENGINE * probes[segment] * len(shown) * of_image
    kept = {condition.start for condition in protocol.conditions.values()}  # where others start from
    kept |= {end for stage in protocol.stages.values() for end in stage.looks_back_to.values()}
    megabytes = 4 * protocol.subjects * _weights(protocol, net) * (3 + len(kept)) / 1e6
    total = sum(segment.updates for segment in segments)
    updates = f"{total} updates of {protocol.stimuli.minibatch} images"
    yield (
        f"{updates}: about {duration(seconds)} on this machine as it is now,\n"
        f"about {megabytes + 400:.0f} MB of memory ({megabytes:.0f} MB of them weights)"
    )


def _is_compiled(engine: Engine, segment: Segment, device: str) -> bool:
    """Whether a stage lets compiled programs of Brian2 run."""
    return engine.kind == "spiking" and backend_for(engine.spiking.backend, learns(segment.stage), device) == "cpp"


def _timed_as(engine: Engine) -> Engine:
    """The engine that stands for one of a stage; Brian2 takes about as long as PyTorch, but has to be compiled."""
    return engine.model_copy(update={"spiking": engine.spiking.model_copy(update={"backend": "torch"})})


def _weights(protocol: Protocol, net: nx.MultiDiGraph) -> int:
    """Weights of one subject that are kept."""
    if not protocol.learns_by_backprop:
        return cost.all_synapses(net)
    units, kinds = net.nodes(data="units"), net.edges(data="kind")  # local fields are full matrices there
    return sum(units[source] * units[target] for source, target, kind in kinds if kind == "bottom_up")
