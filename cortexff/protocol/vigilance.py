"""A vigilance task: noise for a while, then an image in noise, and what a network believes from frame to frame.

It is the model's psychomotor vigilance task: a simple reaction after an unpredictable wait. Plasticity is off, and
reaction times are found from the evidence elsewhere. Pixels lie between 0 and 1; areas hear an image as long as any
other, so it is the ratio of image to noise that tells. Noise is the image with all its pixels shuffled, anew in each
frame; from the onset on, a share of each pixel is the image's. A lure is an image of another class, which with the
label given is negative data as the network has met them: noise it has never met, and a network whose goodness is low
activity takes noise for real, as it evokes little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cortexff import readout
from cortexff.analysis.spike_trains import SILENT, synchrony
from cortexff.analysis.statistics import mean_of_known
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import RateState
from cortexff.errors import CortexffError
from cortexff.log import Variable
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.probe import ROWS_AT_ONCE
from cortexff.random_streams import generator
from cortexff.stimuli.pixels import shuffled_pixels

FOREPERIOD = (2, 10)  # frames, first and last of those drawn from; seconds in the human task (Basner et al. 2011)
EVOKED = 4  # frames after the onset that are not in measures of activity: what an image evokes is common to all units
UNITS = 50  # of an area, whose correlations are measured
VALUES_AT_ONCE = 2**25  # activities kept together, over units, frames, trials and subjects

VISIBLE = 0.7  # share of an image in a frame that makes reactions take about five frames, with either sign of goodness
TRIALS = 100

_AREA = ("subject", "area")
_WHEN = f"frames from {EVOKED} after the onset on"
VARIABLES = {
    "vigilance_evidence": Variable(
        ("subject", "trial", "frame"), "1", "evidence for real data after each frame", "Σ_blocks log odds"
    ),
    "vigilance_onset": Variable(("trial",), "frames", "frames before the first with the image", dtype="i8"),
    "vigilance_synchrony": Variable(
        _AREA,
        "1",
        "share of variance in time that the units of an area have in common (χ²), image in noise",
        f"Var_t(mean_j y) / mean_j Var_t(y_j), mean over trials, {_WHEN}",
    ),
    "vigilance_noise_correlation": Variable(
        _AREA,
        "1",
        "mean correlation of pairs of units over frames that differ in their noise",
        f"of deviations from the mean of each trial; {UNITS} units, {_WHEN}",
    ),
    "vigilance_off_index": Variable(
        _AREA,
        "1",
        "share of blocks and frames that are nearly silent, image in noise",
        f"P(mean activity < {SILENT} of the block's mean over frames and trials), {_WHEN}",
    ),
}


@dataclass(frozen=True)
class Task:
    """Trials of one session: the same for all conditions, so every comparison is paired.

    images    (trials, pixels)
    labels    (trials,), shown from the first frame on
    onset     (trials,), frames before the first with the image
    lures     (trials, pixels), images that are seen in their place before the onset; None where noise alone is seen
    visible   share of an image in a frame, 0 to 1; the rest is noise
    frames    of a trial
    seed      of the noise
    subjects  their numbers, which decide what noise each sees
    """

    images: Tensor
    labels: Tensor
    onset: Tensor
    lures: Tensor | None
    visible: float
    frames: int
    seed: int
    subjects: Sequence[int]

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        seed: int,
        subjects: Sequence[int],
        visible: float = VISIBLE,
        frames: int = 32,
        lures: bool = True,
    ) -> Task:
        """A trial for each image, with a random foreperiod that is the same for all subjects.

        lures   whether each image is preceded by the next one that has another label, not by noise alone
        raises  CortexffError where frames are too few to measure activity after the latest onset, or no label differs
        """
        if frames < (least := FOREPERIOD[1] + EVOKED + 2):
            raise CortexffError(
                f"{frames} frames are too few: with a foreperiod of {FOREPERIOD[1]}, give {least} or more"
            )
        if lures and len(set(labels.tolist())) < 2:
            raise CortexffError(
                "lures are images of other classes, but all images have one label: give several, or noise"
            )
        drawn = generator(seed, 0, "foreperiods").integers(FOREPERIOD[0], FOREPERIOD[1] + 1, len(labels))
        pictures = torch.from_numpy(images)
        return cls(
            pictures,
            torch.from_numpy(labels),
            torch.from_numpy(drawn),
            pictures[_of_others(labels)] if lures else None,
            visible,
            frames,
            seed,
            list(subjects),
        )

    @property
    def measured(self) -> int:
        """Frames of each trial in which activity is measured, from ``EVOKED`` after its onset on."""
        return self.frames - FOREPERIOD[1] - EVOKED

    def film(self, trials: slice) -> Iterator[Tensor]:
        """The frames of some trials, (subjects, trials, pixels) each; a trial's noise is a random stream of its own."""
        images = self.images[None, trials].expand(len(self.subjects), -1, -1)
        lures = images if self.lures is None else self.lures[None, trials]
        share_of_lures = 0.0 if self.lures is None else self.visible
        numbers = range(len(self.labels))[trials]
        streams = [generator(self.seed, subject, "vigilance", trial) for subject in self.subjects for trial in numbers]
        for frame in range(self.frames):
            begun = (self.onset[trials] <= frame)[:, None]
            share = torch.where(begun, self.visible, share_of_lures)
            noise = shuffled_pixels(images.flatten(0, 1)[:, None], streams).view(images.shape)
            yield share * torch.where(begun, images, lures) + (1.0 - share) * noise


def _of_others(labels: np.ndarray) -> list[int]:
    """For each place the next one with another label, around the end."""
    count = len(labels)
    return [
        next(there % count for there in range(here + 1, here + count) if labels[there % count] != labels[here])
        for here in range(count)
    ]


def measure(
    engine: RateEngine, state: RateState, presentation: Presentation, task: Task, counted: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Let every subject watch every trial, plasticity off.

    engine   of rates
    counted  areas whose evidence is summed; all hidden ones unless given
    returns  a value for each of ``VARIABLES``. Of a subject whose network has diverged, evidence is not finite and the
             rest is NaN
    """
    counted = engine.areas if counted is None else counted
    watched = {area: Watched(engine, area, task) for area in engine.areas}
    parts = []
    for trials in _chunks(engine, task):
        labels = task.labels[trials].to(engine.device)
        _, context = presentation.real(task.images[None, trials].to(engine.device), labels)
        frames = (presentation.real(frame.to(engine.device), labels)[0] for frame in task.film(trials))
        by_frame = torch.zeros(task.frames, len(task.subjects), len(labels), device=engine.device)
        traces = {area: watched[area].room(len(labels)) for area in engine.areas}
        for moment in engine.film(state, frames, context):
            for area in moment.areas:
                activity = moment.activity[area]
                if area in counted:
                    goodness = {area: engine.goodness(area, activity[:, :, 0])}
                    by_frame[moment.step - 1] += readout.evidence(engine, goodness)
                place = moment.step - 1 - EVOKED - task.onset[trials]
                now = (place >= 0) & (place < task.measured)
                traces[area][:, now, place[now]] = activity[:, now, 0]
        parts.append(by_frame.permute(1, 2, 0).cpu().numpy())
        for area in engine.areas:
            watched[area].see(traces[area].cpu().numpy())
    evidence = np.concatenate(parts, axis=1)
    of_areas = [watched[area].found() for area in engine.areas]
    sane = np.isfinite(evidence).all((1, 2))[:, None]
    found = {name: np.where(sane, np.stack([one[name] for one in of_areas], axis=-1), np.nan) for name in of_areas[0]}
    found = {"vigilance_evidence": evidence, **found}
    onset = task.onset.numpy()
    return {**{name: value.astype(np.float32) for name, value in found.items()}, "vigilance_onset": onset}


def _chunks(engine: RateEngine, task: Task) -> Iterator[slice]:
    """Trials, as many at a time as memory is meant to hold."""
    subjects, units = len(task.subjects), sum(engine.units[area] for area in engine.areas)
    size = max(1, min(ROWS_AT_ONCE // subjects, VALUES_AT_ONCE // (subjects * task.measured * units)))
    for first in range(0, len(task.labels), size):
        yield slice(first, min(first + size, len(task.labels)))


class Watched:
    """What is measured of an area's activity, from the traces of a few trials after those of others."""

    def __init__(self, engine: RateEngine, area: str, task: Task) -> None:
        units, self.device = engine.units[area], engine.device
        streams = [generator(task.seed, subject, f"correlated units/{area}") for subject in task.subjects]
        self.chosen = np.stack([stream.choice(units, min(UNITS, units), replace=False) for stream in streams])
        self.blocks = engine.net.nodes[area]["goodness"].blocks
        self.shape = (len(task.subjects), task.measured, units)
        self.together: list[np.ndarray] = []  # synchrony of each trial, (subjects, trials)
        self.levels: list[np.ndarray] = []  # mean activity of each block, (subjects, trials, frames, blocks)
        self.products = 0.0  # of the chosen units' deviations, summed over trials and frames, (subjects, units, units)

    def room(self, trials: int) -> Tensor:
        """For the traces of some trials, (subjects, trials, frames, units)."""
        return torch.empty(self.shape[0], trials, *self.shape[1:], device=self.device)

    def see(self, traces: np.ndarray) -> None:
        """Take in the traces of some trials."""
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged network is told by its evidence
            self.together.append(synchrony(traces))
            self.levels.append(traces.reshape(*traces.shape[:-1], self.blocks, -1).mean(-1, dtype=np.float64))
            chosen = np.take_along_axis(traces, self.chosen[:, None, None], -1)
            deviations = (chosen - chosen.mean(2, keepdims=True)).reshape(len(chosen), -1, chosen.shape[-1])
            self.products = self.products + deviations.swapaxes(1, 2) @ deviations

    def found(self) -> dict[str, np.ndarray]:
        """What it is by the names of ``VARIABLES``, (subjects,)."""
        levels = np.concatenate(self.levels, axis=1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            mean = levels.mean((1, 2), keepdims=True)
            # A block that never answers is dead, not OFF.
            off = np.where(mean > 0, levels < SILENT * mean, np.nan)
            size = np.sqrt(np.diagonal(self.products, axis1=1, axis2=2))
            correlation = self.products / (size[:, :, None] * size[:, None])
        one, other = np.triu_indices(correlation.shape[-1], 1)
        return {
            "vigilance_synchrony": mean_of_known(np.concatenate(self.together, axis=1)),
            "vigilance_noise_correlation": mean_of_known(correlation[:, one, other]),
            "vigilance_off_index": mean_of_known(off.reshape(len(off), -1)),
        }
