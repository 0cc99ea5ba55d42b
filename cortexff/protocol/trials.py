"""Presentations of which every spike is seen: what is measured on them, and what the results file keeps of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cortexff.analysis.spike_trains import irregularity, off_share, synchrony
from cortexff.analysis.statistics import mean_of_known
from cortexff.engines.neurons import Clockwork
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateState
from cortexff.protocol.presentation import Presentation
from cortexff.sonata import SAMPLE, Trial, samples_of

MEASURED = 20  # images, the first that are probed
AT_ONCE = 15  # presentations: every time step of each is in memory


def of_real_data(
    engine: SpikingEngine, state: RateState, presentation: Presentation, images: Tensor, labels: Tensor, first_step: int
) -> dict[str, np.ndarray]:
    """Synchrony, irregularity and OFF periods of each subject and area, of images with their true label.

    images      (cases, pixels)
    labels      (cases,)
    first_step  from which on time counts: what the image and the label evoke at first is common to all units
    """
    clock = engine.clock
    begin = _begin(clock, first_step)
    spikes: dict[str, list[np.ndarray]] = {area: [] for area in engine.areas}
    together: dict[str, list[np.ndarray]] = {area: [] for area in engine.areas}
    size = max(1, AT_ONCE // len(next(iter(state.biases.values()))))
    for some, true in zip(images[:MEASURED].split(size), labels[:MEASURED].split(size), strict=True):
        shown = presentation.real(some[None].to(engine.device), true.to(engine.device))
        seen = engine.record(state, *shown)
        for area in engine.areas:
            spikes[area].append(seen.spikes[area][:, :, 0, begin:].cpu().numpy())
            together[area].append(synchrony(seen.traces[area][:, :, 0, begin:].cpu().numpy()))
    found: dict[str, list[list[float]]] = {"irregularity": [], "off_share": []}
    for area, parts in spikes.items():
        of_subjects = np.concatenate(parts, axis=1)
        blocks = engine.net.nodes[area]["goodness"].blocks
        found["irregularity"].append([irregularity(trains) for trains in of_subjects])
        found["off_share"].append([off_share(trains, blocks, clock.half) for trains in of_subjects])
    shared = [mean_of_known(np.concatenate(parts, axis=1)) for parts in together.values()]
    return {"synchrony": np.stack(shared, axis=-1), **{name: np.array(areas).T for name, areas in found.items()}}


def _begin(clock: Clockwork, step: int) -> int:
    """The time step in which a step begins: half an iteration after the label, which takes that long to arrive."""
    return clock.bottom_up + clock.half + (step - 1) * clock.iteration


def trials(
    engine: SpikingEngine,
    state: RateState,
    presentation: Presentation,
    images: Tensor,
    labels: Tensor,
    variant: str,
    condition: str,
    subject_number: int,
    image_set: str,
    steps: tuple[int, int],
) -> Iterator[Trial]:
    """Images one by one, each with its true label and with the one after it.

    state   of that subject alone
    images  (cases, pixels)
    labels  (cases,)
    steps   first and last of those that are read out
    """
    step, clock = engine.neurons.time_step, engine.clock
    duration = clock.whole * step
    # A trace is sampled at the beginning of a time step.
    sampled = np.floor(np.arange(samples_of(duration)) * SAMPLE / step + 1e-6).astype(int)
    for stimulus, (image, true) in enumerate(zip(images, labels.tolist(), strict=True)):
        shown_with = [true, (true + 1) % presentation.classes]
        shown = presentation.labelled(
            image[None, None].to(engine.device), torch.tensor(shown_with, device=engine.device)[None, None]
        )
        seen = engine.record(state, *shown)
        for version, label in enumerate(shown_with):
            spikes = {}
            for area, of_area in seen.spikes.items():
                time, unit = np.nonzero(of_area[0, 0, version].cpu().numpy())
                spikes[area] = (time * step, unit)
            traces = {
                area: np.pad(of_area[0, 0, version].cpu().numpy(), ((1, 0), (0, 0)))[sampled]
                for area, of_area in seen.traces.items()
            }
            yield Trial(
                variant,
                condition,
                subject_number,
                image_set,
                stimulus,
                true,
                label,
                label_at=seen.label_at * step,
                duration=duration,
                read_from=_begin(clock, steps[0]) * step,
                read_until=_begin(clock, steps[1] + 1) * step,
                iteration=clock.iteration * step,
                spikes=spikes,
                traces=traces,
            )
