"""How activity moves, and what moves it: measures that a probe takes only where a protocol asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cortexff.engines import cost
from cortexff.engines.rate import RateEngine
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import Activity, Moment, RateState
from cortexff.log import Variable

KINDS = {"pos": "real images with true label", "neg": "images with the label after it", "noise": "shuffled pixels"}
_PROBE, _AREA = ("probe", "subject"), ("probe", "subject", "area")
MEASURES = {
    # §3.5: does what comes from above cancel what comes from below?
    "cancellation": {
        f"{name}_{kind}": Variable(_AREA, "1", f"{meaning}, {data}", f"{formula}, after the last step of the readout")
        for name, meaning, formula in (
            ("agreement", "cosine of the drives from below and from above; −1: they cancel", "E[b·t]/√(E[b²] E[t²])"),
            (
                "cancellation",
                "share of the drive from below that the one from above takes away; below 0: adds",
                "1 − E[(b+t)²]/E[b²]",
            ),
        )
        for kind, data in KINDS.items()
    },
    # §3.4: are there biphasic oscillations?
    "oscillation": {
        "change": Variable((*_AREA, "step"), "1", "size of a step's change, real data", "√(E[Δₜ²] / E[yₜ²])"),
        "reversal": Variable(
            (*_AREA, "step"),
            "1",
            "1: a step takes back what the one before did, −1: it goes on, real data",
            "−E[Δₜ·Δₜ₋₁] / √(E[Δₜ²] E[Δₜ₋₁²])",
        ),
    },
    # Of spiking units, and how far they say what rates with the same weights say.
    "spikes": {
        "firing_rate": Variable(_AREA, "Hz", "mean firing rate, real data", "over the steps of the readout"),
        "spikes": Variable(
            _PROBE,
            "spikes",
            "spikes of hidden areas to try an image with every label",
            "to the last step of the readout",
        ),
        "events": Variable(
            _PROBE, "events", "synaptic events of hidden areas to try an image with every label", "Σ spikes × fan-out"
        ),
        "spikes_to_decision": Variable(
            _PROBE,
            "spikes",
            "spikes of hidden areas until the label stays, to try an image with every label",
            "to the first step from which argmax_k stays, of all steps",
        ),
        "synchrony": Variable(
            _AREA,
            "1",
            "share of variance in time that the units of an area have in common (χ²), real data",
            "Var_t(mean_j r) / mean_j Var_t(r), from the first step of the readout on; first 20 images",
        ),
        "irregularity": Variable(
            _AREA,
            "1",
            "difference of successive intervals between spikes (CV2), 0 a clock, 1 Poisson, real data",
            "E[2|I' − I| / (I' + I)], from the first step of the readout on; first 20 images",
        ),
        "off_share": Variable(
            _AREA,
            "1",
            "share of time that a block is nearly silent (OFF periods), real data",
            "P(spikes in half an iteration ≤ a tenth of their mean), from the first step of the readout on; "
            "first 20 images",
        ),
        "goodness_correlation": Variable(
            _PROBE, "1", "correlation with rates of the same weights, of goodness", "over images and labels, Σ_areas G"
        ),
        "state_correlation": Variable(
            _AREA,
            "1",
            "correlation with rates of the same weights, of activity",
            "over images and units, last step read",
        ),
    },
}


class Rates:
    """Activity of real data over the steps read, (subjects, cases) each.

    versions  of each case, the version that is real
    steps     first and last that are read, from 1
    """

    def __init__(self, versions: Tensor, steps: tuple[int, int]) -> None:
        self.versions, self.steps = versions, steps
        self.found: dict[str, list[Tensor]] = {}

    def see(self, moment: Moment) -> None:
        """Take in a moment."""
        if self.steps[0] <= moment.step <= self.steps[1]:
            for area in moment.areas:
                real = _of(moment.activity[area], self.versions)
                self.found.setdefault(f"rate/{area}", []).append(real.mean(-1))
                self.found.setdefault(f"active/{area}", []).append((real > 0).float().mean(-1))

    def arrays(self) -> dict[str, Tensor]:
        """Name/area → (subjects, cases): mean activity, and the share of units that are active."""
        return {name: torch.stack(steps).mean(0) for name, steps in self.found.items()}


class Drives:
    """What drives areas, from below and from above, after the last step read.

    versions  of each case, one (cases,) tensor for every version that is looked at
    last      step, the last that is read
    """

    def __init__(self, versions: Sequence[Tensor], last: int) -> None:
        self.versions, self.last = versions, last
        self.activity: Activity = {}

    def see(self, moment: Moment) -> None:
        """Take in a moment."""
        if moment.step == self.last:
            for area in moment.areas:
                seen = [_of(moment.activity[area], version) for version in self.versions]
                self.activity[area] = torch.stack(seen, dim=2)

    def arrays(
        self, engine: RateEngine, state: RateState, what: str, images: Activity, context: Activity
    ) -> dict[str, Tensor]:
        """Energy of the drives from below and from above, and their product: (subjects, cases, versions)."""
        heard = {**images, **context, **self.activity}
        below, above = (engine.arriving(state, heard, kind) for kind in ("bottom_up", "top_down"))
        return {
            f"{name}/{what}/{area}": (one[area] * other[area]).sum(-1)
            for area in engine.areas
            for name, one, other in (("below", below, below), ("above", above, above), ("both", below, above))
        }


def cancellation(whole: Mapping[str, np.ndarray], areas: Sequence[str]) -> dict[str, np.ndarray]:
    """The variables of that measure, (subjects, areas), from :class:`Drives` of all ``data`` and all ``noise``."""
    found = {}
    for kind, (what, version) in {"pos": ("data", 0), "neg": ("data", 1), "noise": ("noise", 0)}.items():
        below, above, both = (
            np.stack([whole[f"{name}/{what}/{area}"][..., version].mean(1) for area in areas], axis=-1)
            for name in ("below", "above", "both")
        )
        found[f"agreement_{kind}"] = both / np.maximum(np.sqrt(below * above), 1e-30)
        found[f"cancellation_{kind}"] = -(2 * both + above) / np.maximum(below, 1e-30)
    return found


class Spikes:
    """What spiking units do, and what rates of the same weights do: (subjects, cases, ...) each.

    versions  of each case, the version that is real
    last      step, the last that is read
    """

    def __init__(self, versions: Tensor, last: int) -> None:
        self.versions, self.last = versions, last
        self.found: dict[str, Tensor] = {}
        self.by_step: list[Tensor] = []  # spikes of all hidden areas, with all versions

    def see(self, moment: Moment) -> None:
        """Take in a moment of the spiking units."""
        self.by_step.append(sum(moment.spikes[area].sum(-1) for area in moment.areas))
        if moment.step == self.last:
            for area in moment.areas:
                self.found[f"spikes/{area}"] = moment.spikes[area].sum(-1)
                self.found[f"state/{area}"] = _of(moment.activity[area], self.versions).clone()

    def decided(self, steps: Tensor) -> None:
        """Take in the step of each case, (subjects, cases), from which its label stays."""
        self.found["spikes_to_decision"] = torch.stack(self.by_step).gather(0, steps[None] - 1)[0]

    def see_rates(self, moment: Moment) -> None:
        """Take in a moment of the rates, once the spiking units have been seen."""
        if moment.step == self.last:
            for area in moment.areas:
                one, other = self.found.pop(f"state/{area}"), _of(moment.activity[area], self.versions)
                sums = (one, other, one * one, other * other, one * other)
                self.found[f"state/{area}"] = torch.stack([product.mean(-1) for product in sums], dim=-1)


def spikes(whole: Mapping[str, np.ndarray], engine: RateEngine) -> dict[str, np.ndarray]:
    """The variables of that measure, (subjects,) or (subjects, areas), from :class:`Spikes` of all cases.

    ``whole`` has the goodness of rates too, ``rates``, and of spiking units, ``goodness/AREA``. Of a stage of
    rates all is NaN. What single spikes tell is added by ``trials.py``.
    """
    areas, subjects = engine.areas, len(whole[f"goodness/{engine.areas[0]}"])
    if not isinstance(engine, SpikingEngine):
        names = {name: variable.dims[2:] for name, variable in MEASURES["spikes"].items()}
        return {name: np.full((subjects, len(areas))[: 1 + len(dims)], np.nan) for name, dims in names.items()}
    count = {area: whole[f"spikes/{area}"].mean(1) for area in areas}
    fan_out = {area: cost.synapses_from(engine.net, area) / engine.units[area] for area in areas}
    goodness = sum(whole[f"goodness/{area}"].sum(-1) for area in areas)
    one, other, one_squared, other_squared, both = np.moveaxis(
        np.stack([whole[f"state/{area}"].mean(1) for area in areas], axis=1), -1, 0
    )
    spread = (one_squared - one**2) * (other_squared - other**2)
    return {
        "firing_rate": np.stack([engine.neurons.firing_rate * whole[f"rate/{a}"].mean(1) for a in areas], axis=-1),
        "spikes": sum(count.values()),
        "events": sum(count[area] * fan_out[area] for area in areas),
        "spikes_to_decision": whole["spikes_to_decision"].mean(1),
        "goodness_correlation": np.array(
            [np.corrcoef(g.ravel(), r.ravel())[0, 1] for g, r in zip(goodness, whole["rates"], strict=True)]
        ),
        "state_correlation": (both - one * other) / np.sqrt(np.maximum(spread, 1e-30)),
    }


def _of(array: Tensor, versions: Tensor) -> Tensor:
    """The given version of each case, where they differ: (subjects, cases, ...)."""
    return array[:, torch.arange(len(versions)), versions if array.shape[2] > 1 else torch.zeros_like(versions)]


class Steps:
    """Changes of the activity of real data from step to step, (subjects, cases) each.

    before    area → activity that the settle begins with, (subjects, cases, 1 or versions, units)
    versions  of each case, the version that is real
    """

    def __init__(self, before: Activity, versions: Tensor) -> None:
        self.versions = versions
        self.before = {area: _of(activity, versions) for area, activity in before.items()}
        self.change = {area: torch.zeros_like(activity) for area, activity in self.before.items()}
        self.sums: dict[str, list[Tensor]] = {
            f"{name}/{area}": [] for area in before for name in ("moved", "size", "turned")
        }

    def see(self, moment: Moment) -> None:
        """Take in a moment."""
        for area in moment.areas:
            now = _of(moment.activity[area], self.versions)
            change = now - self.before[area]
            pairs = {"moved": (change, change), "size": (now, now), "turned": (change, self.change[area])}
            for name, (one, other) in pairs.items():
                self.sums[f"{name}/{area}"].append((one * other).sum(-1))
            self.before[area], self.change[area] = now, change

    def arrays(self) -> dict[str, Tensor]:
        """Name/area → (subjects, cases, steps)."""
        return {name: torch.stack(steps, dim=-1) for name, steps in self.sums.items()}


def oscillation(whole: Mapping[str, np.ndarray], areas: Sequence[str]) -> dict[str, np.ndarray]:
    """The variables of that measure, (subjects, areas, steps), from :meth:`Steps.arrays` of all cases."""
    moved, size, turned = (
        np.stack([whole[f"{name}/{area}"].mean(1) for area in areas], axis=1) for name in ("moved", "size", "turned")
    )
    reversal = np.full_like(turned, np.nan)  # nothing was before the first step
    reversal[..., 1:] = -turned[..., 1:] / np.maximum(np.sqrt(moved[..., 1:] * moved[..., :-1]), 1e-30)
    return {"change": np.sqrt(moved / np.maximum(size, 1e-30)), "reversal": reversal}
