"""From activity to a label: try every label and keep the one of highest goodness, or one pass and a softmax (§3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cortexff.engines import ranks
from cortexff.engines.backprop import BackpropEngine
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Moment, Percept, RateState
from cortexff.equations.normalization import length_normalization
from cortexff.equations.plasticity import apply_gradient, unit_input_rate


@dataclass
class SoftmaxState:
    """A linear classifier with a softmax, one for each subject.

    weights  (subjects, labels, units heard); starts at zero
    average  running average of its gradient, same shape
    """

    weights: Tensor
    average: Tensor

    def arrays(self) -> dict[str, Tensor]:
        return {"weights": self.weights, "average": self.average}


def softmax_areas(engine: RateEngine | BackpropEngine) -> list[str]:
    """The areas that the one-pass softmax hears: all hidden areas but the first (§3.3), or the only one.

    Where it is trained together with the areas below it, by backpropagation (§3.1), it hears the last.
    """
    return engine.areas[-1:] if isinstance(engine, BackpropEngine) else engine.areas[1:] or engine.areas


def start_softmax(
    engine: RateEngine | BackpropEngine, subjects: int, labels: int, areas: Sequence[str] | None = None
) -> SoftmaxState:
    """An untrained classifier: every label equally likely. It hears :func:`softmax_areas` unless others are given."""
    units = sum(engine.net.nodes[area]["units"] for area in areas or softmax_areas(engine))
    weights = torch.zeros(subjects, labels, units, device=engine.device)
    return SoftmaxState(weights, torch.zeros_like(weights))


def softmax_heard(engine: RateEngine | BackpropEngine, percept: Percept, areas: Sequence[str] | None = None) -> Tensor:
    """Activity that the softmax reads of the bottom-up pass, first version: (subjects, cases, units).

    It is normalized, as all that areas hear; in a net without normalization (§3.1) it is not.
    """
    heard = [percept.activity[area][:, :, 0] for area in areas or softmax_areas(engine)]
    if not isinstance(engine, BackpropEngine):
        heard = [length_normalization(activity) for activity in heard]
    return torch.cat(heard, dim=-1)


def belief(softmax: SoftmaxState, heard: Tensor) -> Tensor:
    """Probability of each label after one bottom-up pass, (subjects, cases, labels)."""
    return torch.softmax(torch.bmm(heard, softmax.weights.mT), dim=-1)


def log_belief(softmax: SoftmaxState, heard: Tensor) -> Tensor:
    """The natural logarithm of :func:`belief`, finite also where that is zero to the computer."""
    return torch.log_softmax(torch.bmm(heard, softmax.weights.mT), dim=-1)


def learn_softmax(
    softmax: SoftmaxState,
    heard: Tensor,
    probability: Tensor,
    labels: Tensor,
    learning_rate: float,
    gradient_average: float = 0.9,
    weight_cost: float = 0.003,
    minibatch: int | None = None,
) -> None:
    """One step of the delta rule, in place: no derivative goes further back than these weights (§3.3).

    heard          from :func:`softmax_heard`
    probability    from :func:`belief`, with the same weights
    labels         (subjects, cases), true labels
    learning_rate  for input of length 1
    minibatch      cases of all ranks together, if there are others
    """
    gradient = delta_rule(heard, probability, labels) / (minibatch or heard.shape[1])
    ranks.add_up([gradient])()
    change_softmax(softmax, gradient, learning_rate, gradient_average, weight_cost)


def delta_rule(heard: Tensor, probability: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the log probability of the labels, summed over cases, in the shape of the softmax's weights."""
    wrong = torch.nn.functional.one_hot(labels, probability.shape[-1]) - probability
    return torch.bmm(wrong.mT, heard)


def change_softmax(
    softmax: SoftmaxState, gradient: Tensor, learning_rate: float, gradient_average: float, weight_cost: float
) -> None:
    """Move the weights along a gradient that is a mean over cases, in place."""
    rate = unit_input_rate(learning_rate, gradient.shape[-1])
    apply_gradient(softmax.weights, softmax.average, gradient, rate, gradient_average, weight_cost)


def goodness_trace(
    engine: RateEngine,
    state: RateState,
    percept: Percept,
    context: Mapping[str, Tensor],
    areas: Sequence[str],
    watchers: Iterable[Callable[[Moment], None]] = (),
    steps: int | None = None,
) -> dict[str, Tensor]:
    """Goodness of every block after every step: area → (steps, subjects, cases, versions, blocks).

    watchers  are shown every moment as it passes
    steps     how many, if not those of the engine's dynamics
    """
    trace: dict[str, list[Tensor]] = {area: [] for area in areas}
    for moment in engine.settle(state, percept, context, steps):
        for watch in watchers:
            watch(moment)
        for area in moment.areas:
            if area in trace:
                trace[area].append(engine.goodness(area, moment.activity[area]))
    versions = max(array.shape[2] for array in (*context.values(), *percept.activity.values()))
    return {
        area: torch.stack([step.expand(-1, -1, versions, -1) for step in of_area]) for area, of_area in trace.items()
    }


def window(trace: Tensor, steps: tuple[int, int]) -> Tensor:
    """Mean over some steps, first and last included and counted from 1: (3, 5) is "iterations 3 to 5" (§3.4)."""
    return trace[steps[0] - 1 : steps[1]].mean(0)


def evidence(engine: RateEngine, goodness: Mapping[str, Tensor]) -> Tensor:
    """Log odds of being real, summed over all blocks of all areas given: area → (..., blocks) becomes (...)."""
    return torch.stack([engine.log_odds(area, good).sum(-1) for area, good in goodness.items()]).sum(0)


def by_goodness(
    engine: RateEngine,
    state: RateState,
    percept: Percept,
    candidates: Mapping[str, Tensor],
    steps: tuple[int, int],
    areas: Sequence[str] | None = None,
) -> Tensor:
    """The label whose goodness, averaged over some steps of some areas (all hidden ones), is highest (§3.4).

    candidates  context area → (1, 1, labels, units): every label, tried at once; the image's drive serves them all
    steps       first and last, from 1; the net settles no further
    returns     (subjects, cases)
    """
    trace = goodness_trace(engine, state, percept, candidates, areas or engine.areas, steps=steps[1])
    return evidence(engine, {area: window(steps_of, steps) for area, steps_of in trace.items()}).argmax(-1)


def by_softmax(softmax: SoftmaxState, heard: Tensor) -> Tensor:
    """The label that one bottom-up pass believes in most (§3.3), (subjects, cases)."""
    return belief(softmax, heard).argmax(-1)
