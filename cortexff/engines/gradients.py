"""The local gradients of one update (eq. 3), summed over a settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from cortexff.engines.state import Moment, Plasticity, RateState
from cortexff.engines.workspace import Take
from cortexff.equations import goodness as goodness_equations
from cortexff.equations import plasticity as plasticity_equations
from cortexff.equations.normalization import length_normalization, peer_derivative

if TYPE_CHECKING:
    from cortexff.engines.rate import RateEngine

STEPS_PER_PRODUCT = 8  # steps gathered before one gradient product; bounds memory whatever the number of steps


@dataclass
class AreaGradient:
    """What an area learns from a minibatch, or from a part of it.

    weights  projection → gradient, as its weights are stored
    bias     (subjects, units)
    seen     (subjects, units), activity summed over steps, real versions and cases
    """

    weights: dict[str, Tensor]
    bias: Tensor
    seen: Tensor

    def arrays(self) -> list[Tensor]:
        return [*self.weights.values(), self.bias, self.seen]

    def copy(self) -> AreaGradient:
        weights = {name: gradient.clone() for name, gradient in self.weights.items()}
        return AreaGradient(weights, self.bias.clone(), self.seen.clone())

    def add(self, more: AreaGradient) -> None:
        """Add what the area learns from other cases."""
        for array, other in zip(self.arrays(), more.arrays(), strict=True):
            array += other


class Gradients:
    """Takes in moments, and ends with the gradient of each area; one working set, whatever the number of steps.

    A few steps of derivatives and of what was heard are gathered side by side, so that one product serves them all.
    What comes from a clamped area is the same at every step: the derivatives are summed first and meet it once.

    clamped      input or context area → (subjects or 1, cases or 1, 1 or versions, units)
    is_positive  for each version, whether it is real data
    positive     the same as numbers, (versions, 1), on the engine's device
    plasticity   its ``rule`` alone counts
    share        of one case and step in the means
    """

    def __init__(
        self,
        engine: RateEngine,
        take: Take,
        state: RateState,
        cases: int,
        clamped: Mapping[str, Tensor],
        is_positive: Sequence[bool],
        positive: Tensor,
        plasticity: Plasticity,
        share: float,
    ) -> None:
        self.engine, self.take, self.clamped, self.positive = engine, take, clamped, positive
        self.reals = [version for version, real in enumerate(is_positive) if real]
        self.steps = engine.dynamics.moments
        self.slots = min(self.steps, STEPS_PER_PRODUCT)
        self.plasticity = plasticity
        peers = plasticity.peer_normalization
        renewed = 1.0 - engine.dynamics.damping if engine.dynamics.steps else 1.0  # nothing was before the first pass
        self.first: dict[str, int] = {}  # projection → first row gathered
        self.sums, self.seen, self.pulls, self.gains = {}, {}, {}, {}
        for area in engine.areas:
            settings, units, mean = engine.net.nodes[area]["goodness"], engine.units[area], state.mean_activity[area]
            self.sums[area] = take(f"sums/{area}", (len(mean), cases, len(is_positive), units)).zero_()
            self.seen[area] = take(f"seen/{area}", (len(mean), cases, units)).zero_()
            self.pulls[area] = peer_derivative(mean, peers * share).unsqueeze(1) if peers else None
            self.gains[area] = (
                share
                * renewed
                * goodness_equations.SIGNS[settings.sign]
                * goodness_equations.MEASURES[settings.measure].slope(units // settings.blocks)
                / settings.temperature
            )
        self.weights = {name: take(f"weights/{name}", weights.shape) for name, weights in state.weights.items()}

    def add(self, moment: Moment, area: str) -> None:
        """Take in an area's derivative by its drive, of one step (eq. 3).

        Where no label has reached the area yet, its activity is that of all versions: what the real one and the wrong
        one ask for adds up, and is that every image have a goodness of θ.
        """
        engine, activity = self.engine, moment.activity[area]
        derivative = self.take(f"derivative/{engine.units[area]}", self.sums[area].shape)
        log_odds = engine.log_odds(area, engine.goodness(area, moment.judged.get(area, activity)))
        residual = self.plasticity.residual(area, log_odds, self.positive)
        plasticity_equations.drive_derivative(
            engine.in_blocks(area, activity),
            engine.in_blocks(area, moment.response[area].sign_()),  # rectified: its sign says who is active
            residual,
            self.gains[area],
            out=engine.in_blocks(area, derivative),
        )
        shown = activity.expand_as(derivative)
        for version in self.reals:
            self.seen[area] += shown[:, :, version]
            if self.pulls[area] is not None:
                derivative[:, :, version] += self.pulls[area]
        self.sums[area] += derivative
        for source, name in engine.sources[area]:
            if name in moment.rings:
                self._gather(moment, name, moment.places[source], derivative)

    def _gather(self, moment: Moment, name: str, place: slice, derivative: Tensor) -> None:
        """Put an area's derivative beside what a projection heard, and multiply them once there are enough of them."""
        slot, ring = (moment.step - 1) % self.slots, moment.rings[name]
        shape = (*ring.shape[:2], derivative.shape[-1])
        gathered = self.take(f"derivatives/{name}", shape, self.engine.product_type)
        if place.stop - place.start < derivative.shape[1] * derivative.shape[2]:  # all versions heard the same
            gathered[:, place] = self._over_versions(derivative)
        else:
            gathered[:, place] = derivative.flatten(1, 2)
        if slot == 0:
            self.first[name] = place.start
        if slot + 1 == self.slots or moment.step == self.steps:
            rows, more = slice(self.first[name], place.stop), moment.step > self.slots
            projection = self.engine.projections[name]
            projection.add_gradient(self.take, gathered[:, rows], ring[:, rows], self.weights[name], more)

    def close(self, area: str) -> AreaGradient:
        """Finish an area's sums with what it hears of clamped areas."""
        engine, weights = self.engine, {}
        for source, name in engine.sources[area]:
            weights[name] = self.weights[name]
            if source in self.clamped:
                heard, derivative = length_normalization(self.clamped[source].float()), self.sums[area]
                if heard.shape[2] == 1:  # one image for all versions
                    derivative = self._over_versions(derivative).unsqueeze(2)
                rows = derivative.flatten(1, 2).to(engine.product_type)
                ring = engine.heard(self.take, name, heard, derivative.shape[:3])
                engine.projections[name].add_gradient(self.take, rows, ring, weights[name], more=False)
            elif source not in engine.areas:  # a context that was not shown
                weights[name].zero_()
            if (mask := engine.projections[name].mask) is not None:
                weights[name] *= mask
        return AreaGradient(weights, self.sums[area].sum((1, 2)), self.seen[area].sum(1))

    def _over_versions(self, array: Tensor) -> Tensor:
        """Sum of (subjects, cases, versions, units) over versions; faster than a sum along so short an axis."""
        first, *others = array.unbind(2)
        total = self.take(f"over versions/{array.shape[-1]}", first.shape).copy_(first)
        for other in others:
            total += other
        return total
