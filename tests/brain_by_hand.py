"""One subject of a small recurrent net in plain numpy, to compare the engine's measures with."""

import json
from collections.abc import Sequence

import numpy as np
import torch
from short_life import LABELS, PIXELS
from short_life import MODEL as SHORT_LIFE

from cortexff.engines.rate import RateEngine
from cortexff.engines.state import RateDynamics, RateState
from cortexff.graph import parse_model, with_goodness
from cortexff.protocol.presentation import Presentation

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
STEPS, AREAS = 6, ("V1", "V2")
MODEL = {
    "format": "cortexff-model/1",
    "areas": {
        "retina": {"role": "input", "units": PIXELS},
        "V1": {"units": 8, "goodness": {"blocks": 2, "threshold": 1.5}},
        "V2": {"units": 6, "goodness": {"measure": "mean_square", "threshold": 0.5, "temperature": 0.5}},
        "label": {"role": "context", "units": LABELS},
    },
    "projections": SHORT_LIFE["projections"],
}
CLAMPED = Presentation("context", "retina", "label", (3, 3), LABELS, blurs=2)


def engine_of(alternating: bool = False, sign: str = "max") -> RateEngine:
    net = with_goodness(parse_model(json.dumps(MODEL)), sign=sign)
    return RateEngine(net, RateDynamics(steps=STEPS, alternating=alternating))


def feed_forward() -> RateEngine:
    """Without the projections from above, and so without steps."""
    areas = {name: area for name, area in MODEL["areas"].items() if name != "label"}
    projections = [projection for projection in MODEL["projections"] if "kind" not in projection]
    net = parse_model(json.dumps({**MODEL, "areas": areas, "projections": projections}))
    return RateEngine(net, RateDynamics(steps=0))


def cohort(engine: RateEngine, subjects: list[int]) -> RateState:
    """Newborn subjects with biases."""
    state = engine.start(0, subjects)
    for place, subject in enumerate(subjects):
        random = torch.Generator().manual_seed(subject)
        for bias in state.biases.values():
            bias[place] = 0.3 * torch.randn(bias.shape[1:], generator=random)
    return state


def heard(activity: np.ndarray) -> np.ndarray:
    return activity / np.sqrt(np.mean(activity**2)) if activity.any() else activity


class Brain:
    """One subject of :func:`engine_of`: its weights as float64.

    gain  of the image's drive
    """

    def __init__(self, state: RateState, place: int, alternating: bool = False, gain: float = 1.0) -> None:
        self.weights = {name: w[place].double().cpu().numpy() for name, w in state.weights.items()}
        self.weights["retina→V1"] = gain * self.weights["retina→V1"]
        self.biases = {area: b[place].double().cpu().numpy() for area, b in state.biases.items()}
        self.groups = [["V1"], ["V2"]] if alternating else [["V1", "V2"]]

    def pass_up(self, image: np.ndarray) -> dict[str, np.ndarray]:
        first = np.maximum(self.biases["V1"] + self.weights["retina→V1"] @ heard(image), 0)
        return {"V1": first, "V2": np.maximum(self.biases["V2"] + self.weights["V1→V2"] @ heard(first), 0)}

    def watch(
        self, frames: Sequence[np.ndarray], label: int, pulse: dict[str, np.ndarray] | None = None, at: int = 0
    ) -> list:
        """Activity of both areas after each frame; to that of step ``at`` a pulse is added."""
        # All areas at once from what they heard the step before; or V1 first, and V2 from what it then says.
        activity, shown, steps = self.pass_up(frames[0]), np.eye(LABELS)[label], []
        for step, frame in enumerate(frames, start=1):
            for group in self.groups:
                said = {area: heard(y) for area, y in {**activity, "label": shown, "retina": frame}.items()}
                for area in group:
                    inputs = [name for name in self.weights if name.endswith(f"→{area}")]
                    drive = sum(self.weights[name] @ said[name.split("→")[0]] for name in inputs) + self.biases[area]
                    activity = {**activity, area: 0.3 * activity[area] + 0.7 * np.maximum(drive, 0)}
                    if step == at and pulse and area in pulse:
                        activity = {**activity, area: activity[area] + pulse[area]}
            steps.append(activity)
        return steps
