"""Excitability of a network, and what its activity and synapses are like, with real data and plasticity off.

What areas hear from each other is length-normalized, so recurrence alone cannot run away: only what an area hears of
the image grows with the image's gain, and the gain at which activity becomes excessive stands for a seizure threshold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cortexff.engines import cost
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Activity, Percept, RateState
from cortexff.log import Variable
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.probe import ROWS_AT_ONCE
from cortexff.random_streams import generator

MEASURED = 100  # images, the first that are given
PULSED, PULSE = 0.05, 0.1  # share of an area's units, and what is added to the activity of each
CONTRASTS = (0.9, 1.1)
EXCESS = 9.0  # mean square activity: three times the root mean square at a goodness threshold of θ = N
GAINS, HALVINGS = (1.0, 100.0), 8

_PROBE, _AREA = ("probe", "subject"), ("probe", "subject", "area")
VARIABLES = {
    "evoked_slope": Variable(
        _AREA,
        "activity",
        "slope of the evoked activity with the gain of the image's drive (contrast)",
        "(E|y|(1.1) − E|y|(0.9)) / 0.2, bottom-up pass",
    ),
    "pulse_response": Variable(
        _AREA,
        "1",
        f"response of an area to a pulse into {PULSED:.0%} of its units, per amplitude",
        f"Σ_{{t0<t≤t0+2}} E|y(t) − y_ref(t)| / {PULSE}, t0 the middle of the settle",
    ),
    "gain_star": Variable(
        _PROBE,
        "1",
        "smallest gain of the image's drive with excessive activity in an area (seizure threshold)",
        f"min g: E[y²] > {EXCESS:g}, over images, steps and units; {GAINS[0]:g} to {GAINS[1]:g}",
    ),
    "energy": Variable(
        _PROBE,
        "activity synapses",
        "activity passed on to hidden areas to settle on an image (a proxy of energy)",
        "E[Σ_t Σ_areas Σ_j y_j(t) × fan-out], mean fan-out of an area's units",
    ),
    "dimensionality": Variable(
        _AREA,
        "1",
        "participation ratio of activity over images",
        "(Σλ)² / Σλ², λ of the covariance of the mean activity in the readout's steps",
    ),
    "dead_frac": Variable(_AREA, "1", "share of units that are silent with all images", "P(y(t) = 0 for all t)"),
    "weight_mean": Variable(_AREA, "1", "mean weight of the synapses onto an area", "E[w]"),
    "weight_norm": Variable(_AREA, "1", "Frobenius norm of all weights onto an area", "√Σw²"),
    "bias_mean": Variable(_AREA, "1", "mean bias of an area's units", "E[b]"),
    "settle_residual": Variable(
        _PROBE, "1", "change in the last step of the settle", "E[‖y(T) − y(T−1)‖ / ‖y(T)‖], over all areas"
    ),
}


def measure(
    engine: RateEngine,
    state: RateState,
    presentation: Presentation,
    images: Tensor,
    labels: Tensor,
    seed: int,
    subjects: Sequence[int],
    steps: tuple[int, int],
) -> dict[str, np.ndarray]:
    """Each of ``VARIABLES`` of every subject, (subjects,) or (subjects, areas); NaN where a network has diverged.

    engine    of rates
    images    (cases, pixels); the first ``MEASURED`` are shown
    labels    (cases,)
    seed      decides with the subjects' numbers which units receive the pulse
    steps     first and last step of the readout, from 1
    """
    size = max(1, ROWS_AT_ONCE // len(subjects))
    shown = []
    for some, true in zip(images[:MEASURED].split(size), labels[:MEASURED].split(size), strict=True):
        shown.append(presentation.real(some[None].to(engine.device), true.to(engine.device)))
    pulsed = {area: _pulsed(engine, area, seed, subjects) for area in engine.areas}
    parts = []
    for clamped, context in shown:
        percept = engine.look(state, clamped)
        part = _settled(engine, state, percept, context, steps)
        part |= {f"evoked_slope/{area}": slope for area, slope in _evoked_slope(engine, state, clamped).items()}
        if engine.dynamics.steps:
            responses = pulse_response(engine, state, percept, context, pulsed, PULSE)
            part |= {f"pulse_response/{area}": response / PULSE for area, response in responses.items()}
        parts.append(part)
    whole = {name: torch.cat([part[name] for part in parts], dim=1).cpu().double() for name in parts[0]}
    unknown = torch.full_like(whole["energy"], torch.nan)

    def mean(name: str) -> np.ndarray:
        return whole.get(name, unknown).mean(1).numpy()

    def by_area(of: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.stack([of[area] for area in engine.areas], axis=-1)

    def means(name: str) -> np.ndarray:
        return by_area({area: mean(f"{name}/{area}") for area in engine.areas})

    total = {area: whole[f"total/{area}"].sum(1) for area in engine.areas}
    row = {
        "evoked_slope": means("evoked_slope"),
        "pulse_response": means("pulse_response"),
        "gain_star": _gain_star(engine, state, shown),
        "energy": mean("energy"),
        "dimensionality": by_area({a: participation_ratio(whole[f"read/{a}"]).numpy() for a in engine.areas}),
        "dead_frac": by_area({a: (summed == 0).double().mean(-1).numpy() for a, summed in total.items()}),
        **{name: by_area(of) for name, of in _synapses(engine, state).items()},
        "settle_residual": mean("settle_residual"),
    }
    sane = np.all([torch.isfinite(summed).all(-1).numpy() for summed in total.values()], axis=0)
    row = {name: np.where(sane.reshape(-1, *[1] * (value.ndim - 1)), value, np.nan) for name, value in row.items()}
    return {name: row[name].astype(np.float32) for name in VARIABLES}


def _settled(
    engine: RateEngine, state: RateState, percept: Percept, context: Activity, steps: tuple[int, int]
) -> dict[str, Tensor]:
    """What one settle shows; (subjects, cases), and of activity (subjects, cases, units)."""
    total = {area: torch.zeros_like(evoked[:, :, 0]) for area, evoked in percept.activity.items()}
    read = {area: torch.zeros_like(summed) for area, summed in total.items()}
    before = {area: evoked[:, :, 0] for area, evoked in percept.activity.items()}
    moved, size = 0.0, 0.0
    for moment in engine.settle(state, percept, context):
        for area in moment.areas:
            activity = moment.activity[area][:, :, 0]
            total[area] += activity
            if steps[0] <= moment.step <= steps[1]:
                read[area] += activity / (steps[1] - steps[0] + 1)
            if moment.step == engine.dynamics.steps - 1:
                before[area] = activity.clone()
            elif moment.step == engine.dynamics.steps:
                moved = moved + (activity - before[area]).square().sum(-1)
                size = size + activity.square().sum(-1)
    fan_out = {area: cost.synapses_from(engine.net, area) / engine.units[area] for area in engine.areas}
    found = {
        "energy": sum(fan_out[area] * summed.sum(-1) for area, summed in total.items()),
        **{f"total/{area}": summed for area, summed in total.items()},
        **{f"read/{area}": mean for area, mean in read.items()},
    }
    if engine.dynamics.steps:
        found["settle_residual"] = (moved / size.clamp(min=1e-30)).sqrt()  # silence rests
    return found


def participation_ratio(activity: Tensor) -> Tensor:
    r"""How many directions the activity of an area takes over images.

    .. math:: \bigl(\sum_k \lambda_k\bigr)^2 \Big/ \sum_k \lambda_k^2

    1 where all images lie on a line, N where N units vary alike and alone. The eigenvalues λ of the covariance are
    those of the products of images, of which there are fewer.

    activity  (..., images, units)
    returns   (...); NaN where nothing varies
    """
    deviation = activity - activity.mean(-2, keepdim=True)
    products = deviation @ deviation.mT
    return products.diagonal(dim1=-2, dim2=-1).sum(-1).square() / products.square().sum((-2, -1))


def louder(engine: RateEngine, state: RateState, gain: Tensor | float) -> RateState:
    """The same subjects with the image's drive multiplied: weights from input areas, of which the drive is the product.

    Images themselves are length-normalized, so a brighter one would bring the same.

    gain  one for all, or (subjects,)
    """
    weights = dict(state.weights)
    for area in engine.areas:
        for source, name in engine.sources[area]:
            if engine.net.nodes[source]["role"] == "input":
                each = torch.as_tensor(gain, dtype=torch.float32, device=engine.device)
                weights[name] = weights[name] * each.view(-1, *[1] * (weights[name].ndim - 1))
    return dataclasses.replace(state, weights=weights)


def _evoked_slope(engine: RateEngine, state: RateState, images: Activity) -> dict[str, Tensor]:
    """Area → slope of each image's mean activity with the gain of its drive, (subjects, cases)."""
    low, high = (engine.look(louder(engine, state, gain), images).activity for gain in CONTRASTS)
    apart = CONTRASTS[1] - CONTRASTS[0]
    return {area: (high[area] - low[area])[:, :, 0].mean(-1) / apart for area in engine.areas}


def _gain_star(engine: RateEngine, state: RateState, shown: Sequence[tuple[Activity, Activity]]) -> np.ndarray:
    """The smallest gain with excessive activity of each subject; NaN where none has it. Bisection in log gain."""
    low, high = (np.full(len(next(iter(state.biases.values()))), np.log(gain)) for gain in GAINS)
    ever = _excessive(engine, state, shown, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        excessive = _excessive(engine, state, shown, middle)
        low, high = np.where(excessive, low, middle), np.where(excessive, middle, high)
    return np.where(ever, np.exp(high), np.nan)


def _excessive(
    engine: RateEngine, state: RateState, shown: Sequence[tuple[Activity, Activity]], log_gain: np.ndarray
) -> np.ndarray:
    """Whether any hidden area's mean square activity exceeds ``EXCESS`` with that gain, (subjects,)."""
    state = louder(engine, state, torch.from_numpy(np.exp(log_gain)))
    power = {area: 0.0 for area in engine.areas}
    for clamped, context in shown:
        for moment in engine.settle(state, engine.look(state, clamped), context):
            for area in moment.areas:
                power[area] = power[area] + moment.activity[area].square().mean(-1).sum((1, 2))
    count = engine.dynamics.moments * sum(len(next(iter(clamped.values()))[0]) for clamped, _ in shown)
    return torch.stack([summed > EXCESS * count for summed in power.values()]).any(0).cpu().numpy()


def _pulsed(engine: RateEngine, area: str, seed: int, subjects: Sequence[int]) -> Tensor:
    """Which units of an area receive the pulse, (subjects, 1, units) of ones and zeros."""
    units = engine.units[area]
    pulsed = torch.zeros(len(subjects), 1, units)
    for place, subject in enumerate(subjects):
        stream = generator(seed, subject, f"pulse/{area}")
        pulsed[place, :, stream.choice(units, max(1, round(PULSED * units)), replace=False)] = 1.0
    return pulsed.to(engine.device)


def pulse_response(
    engine: RateEngine,
    state: RateState,
    percept: Percept,
    context: Activity,
    pulsed: Mapping[str, Tensor],
    amplitude: float,
) -> dict[str, Tensor]:
    """Area → how far a pulse into it moves it in the two steps that follow, summed: (subjects, cases).

    The pulse comes in the middle of the settle. Without recurrence it would leave what damping keeps of it.

    pulsed     area → which units receive it, (subjects, 1, units)
    amplitude  that is added to the activity of each
    """
    at = max(1, engine.dynamics.steps // 2)

    def after(area: str | None) -> dict[str, list[Tensor]]:
        """Area → its activity in the two steps after a pulse into one area, or into none."""
        seen: dict[str, list[Tensor]] = {name: [] for name in engine.areas}
        for moment in engine.settle(state, percept, context, steps=at + 2):
            for name in moment.areas:
                activity = moment.activity[name]
                if moment.step > at and area in (name, None):
                    seen[name].append(activity[:, :, 0].clone())
                elif moment.step == at and name == area:
                    activity += amplitude * pulsed[name][:, :, None]  # is passed on when the next moment is asked for
        return seen

    reference = after(None)
    return {
        area: sum((y - ref).abs().mean(-1) for y, ref in zip(after(area)[area], reference[area], strict=True))
        for area in engine.areas
    }


def _synapses(engine: RateEngine, state: RateState) -> dict[str, dict[str, np.ndarray]]:
    """Measure → area → (subjects,): of weights that exist, and of biases."""
    found: dict[str, dict[str, np.ndarray]] = {"weight_mean": {}, "weight_norm": {}, "bias_mean": {}}
    for area in engine.areas:
        of_area = [state.weights[name].flatten(1).double() for _, name in engine.sources[area]]
        count = sum(cost.synapses(engine.net, source, area, name) for source, name in engine.sources[area])
        found["weight_mean"][area] = (sum(weights.sum(-1) for weights in of_area) / count).cpu().numpy()
        squares = sum(weights.square().sum(-1) for weights in of_area)
        found["weight_norm"][area] = squares.sqrt().cpu().numpy()
        found["bias_mean"][area] = state.biases[area].double().mean(-1).cpu().numpy()
    return found
