"""The rate engine: damped recurrent Forward-Forward on any checked graph (§3.4), in closed form.

Every array has a leading axis of *subjects*: a cohort is simulated at once and its members never meet. Then come the
*cases* (images), the *versions* of a case (the label it is shown with: right and wrong, or all ten candidates) and the
units of an area. An axis of length 1 is shared: an image is projected once for all its versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from cortexff.equations import goodness as goodness_equations
from cortexff.equations import plasticity as plasticity_equations
from cortexff.equations.normalization import length_normalization, peer_derivative
from cortexff.graph import afferents, hidden_areas
from cortexff.random_streams import generator
from cortexff.receptive_fields import connection_mask

Activity = dict[str, Tensor]  # area → (subjects, cases, versions, units)

STEPS_PER_PRODUCT = 8  # steps gathered before one gradient product; bounds memory whatever the number of steps


@dataclass(frozen=True)
class RateDynamics:
    """How areas move (§3.4); the defaults are the paper's.

    damping      share of the previous activity that is kept in a step
    steps        steps after the bottom-up pass
    alternating  update even areas from odd ones, then odd from even, as in the paper's preliminary experiment
    precision    of the products, ``float32`` or ``bfloat16``; weights, sums and updates are float32
    device       ``cpu`` or ``cuda``
    """

    damping: float = 0.3
    steps: int = 8
    alternating: bool = False
    precision: str = "float32"
    device: str = "cpu"


@dataclass(frozen=True)
class Plasticity:
    """How weights change; the constants are those of the author's released code unless a protocol says otherwise.

    learning_rate       ε for input of length 1 (``plasticity.unit_input_rate``)
    gradient_average    share of the running average of the gradient that is kept in an update
    weight_cost         share of the weights that is taken off, times the learning rate
    peer_normalization  strength of the pull towards the mean activity of the area (note 9)
    activity_average    share of the running mean activity that is kept in an update
    """

    learning_rate: float
    gradient_average: float = 0.9
    weight_cost: float = 0.001
    peer_normalization: float = 0.03
    activity_average: float = 0.9


@dataclass
class RateState:
    """Everything an engine changes. Each dictionary maps a name to an array with a leading axis of subjects.

    weights, weight_averages  projection → (subjects, target units, source units); running average of the gradient
    biases, bias_averages     area → (subjects, units)
    mean_activity             area → (subjects, units), running mean over real cases
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    weight_averages: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    bias_averages: dict[str, Tensor] = field(default_factory=dict)
    mean_activity: dict[str, Tensor] = field(default_factory=dict)

    def arrays(self) -> dict[str, Tensor]:
        """Every array under a flat name such as ``weights/V1→V2``; :meth:`from_arrays` is the exact inverse."""
        return {
            f"{part.name}/{name}": array for part in fields(self) for name, array in getattr(self, part.name).items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> RateState:
        state = cls()
        for path, array in arrays.items():
            part, name = path.split("/", 1)
            getattr(state, part)[name] = array
        return state

    def select(self, members: Sequence[int]) -> RateState:
        """A copy with some members of the cohort, in the order given."""
        return self.from_arrays({path: array[list(members)] for path, array in self.arrays().items()})

    def replace(self, members: Sequence[int], part: RateState) -> None:
        """Put the members of a smaller cohort back in their places."""
        theirs = part.arrays()
        for path, array in self.arrays().items():
            array[list(members)] = theirs[path]


@dataclass
class Percept:
    """What the bottom-up pass leaves behind: the drive from the input, and the activity it evokes."""

    input_drive: Activity
    activity: Activity


@dataclass
class Moment:
    """One update of some areas within a settle. The arrays are reused by the next one: copy what you keep.

    step      1, 2, ... (0 is the bottom-up pass)
    group     number, within the step, of the areas updated together
    areas     those areas
    heard     area → normalized activity that was listened to
    response  area → rectified drive
    activity  area → damped activity before normalization
    """

    step: int
    group: int
    areas: Sequence[str]
    heard: Activity
    response: Activity
    activity: Activity


class RateEngine:
    """``start`` makes weights, ``look`` and ``settle`` bring activity, ``learn`` changes the weights."""

    def __init__(self, net: nx.MultiDiGraph, dynamics: RateDynamics | None = None) -> None:
        self.net = net
        self.dynamics = dynamics or RateDynamics()
        self.device = torch.device(self.dynamics.device)
        self.product_type = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.dynamics.precision]
        self.areas = hidden_areas(net)
        self.sources = {area: afferents(net, area) for area in self.areas}  # (source area, projection name)
        # Areas are updated together, from what they heard of each other the step before.
        self.groups = [self.areas[0::2], self.areas[1::2]] if self.dynamics.alternating else [self.areas]
        self.masks: dict[str, Tensor] = {}
        for source, target, name, projection in net.edges(keys=True, data=True):
            if (field_ := projection["receptive_field"]) is not None:
                mask = connection_mask(net.nodes[source]["shape"], net.nodes[target]["shape"], field_)
                self.masks[name] = torch.from_numpy(mask).to(self.device, torch.float32)
        self.inputs_heard = {
            area: sum(self._fan_in(source, area, name).mean().item() for source, name in self.sources[area])
            for area in self.areas
        }

    # ------------------------------------------------------------------ start

    def start(self, seed: int, subjects: Sequence[int]) -> RateState:
        """Weights of newborn subjects: each projection brings its share of a drive of unit variance."""
        state = RateState()
        for area in self.areas:
            units = self.net.nodes[area]["units"]
            projections = self.sources[area]
            for source, name in projections:
                scale = 1.0 / np.sqrt(self._fan_in(source, area, name) * len(projections))
                shape = (units, self.net.nodes[source]["units"])
                drawn = [
                    generator(seed, k, f"weights/{name}").standard_normal(shape, dtype=np.float32) for k in subjects
                ]
                weights = torch.from_numpy(np.stack(drawn)).mul_(torch.from_numpy(scale).float().unsqueeze(-1))
                state.weights[name] = weights.to(self.device)
                if name in self.masks:
                    state.weights[name] *= self.masks[name]
                state.weight_averages[name] = torch.zeros_like(state.weights[name])
            state.biases[area] = torch.zeros(len(subjects), units, device=self.device)
            state.bias_averages[area] = torch.zeros_like(state.biases[area])
            state.mean_activity[area] = torch.full_like(state.biases[area], 0.5)
        return state

    def _fan_in(self, source: str, area: str, name: str) -> np.ndarray:
        """Source units that each unit of an area reads through one projection, (units,)."""
        if name in self.masks:
            return self.masks[name].sum(1).cpu().numpy()
        return np.full(self.net.nodes[area]["units"], self.net.nodes[source]["units"])

    # ----------------------------------------------------------------- settle

    def look(self, state: RateState, images: Mapping[str, Tensor]) -> Percept:
        """The single bottom-up pass that starts every settle (§3.4).

        images   input area → (subjects or 1, cases, 1, units); normalized here
        returns  the input's drive and the activity of every hidden area, both (subjects, cases, 1, units)
        """
        weights = self._product_weights(state)
        heard = {area: length_normalization(image.float()) for area, image in images.items()}
        cases = next(iter(images.values())).shape[1:3]
        input_drive, activity = {}, {}
        for area in self.areas:
            drive = state.biases[area][:, None, None].expand(-1, *cases, -1)
            for source, name in self.sources[area]:
                if source in images:
                    drive = drive + self._project(heard[source], weights[name])
            input_drive[area] = drive
            for source, name in afferents(self.net, area, "bottom_up"):
                if source not in images:
                    drive = drive + self._project(heard[source], weights[name])
            activity[area] = torch.relu(drive)
            heard[area] = length_normalization(activity[area])
        return Percept(input_drive, activity)

    def settle(self, state: RateState, percept: Percept, context: Mapping[str, Tensor]) -> Iterator[Moment]:
        """Let the hidden areas run on a still image with their context held fixed (§3.4).

        context  context area → (subjects or 1, cases or 1, versions, units), such as candidate labels
        yields   a moment a step (two where areas alternate)
        """
        weights = self._product_weights(state)
        damping = self.dynamics.damping
        fixed, activity, heard = {}, {}, {}
        for area in self.areas:
            drive = percept.input_drive[area]
            for source, name in self.sources[area]:
                if source in context:
                    drive = drive + self._project(length_normalization(context[source].float()), weights[name])
            fixed[area] = drive
        cases = torch.broadcast_shapes(*(drive.shape[:3] for drive in (*fixed.values(), *context.values())))
        for area in self.areas:
            fixed[area] = fixed[area].expand(*cases, -1).contiguous()
            activity[area] = percept.activity[area].expand(*cases, -1).clone(memory_format=torch.contiguous_format)
            heard[area] = torch.empty_like(activity[area], dtype=self.product_type)
            length_normalization(activity[area], out=heard[area])
        response = {area: torch.empty_like(activity[area]) for area in self.areas}
        for step in range(1, self.dynamics.steps + 1):
            for number, group in enumerate(self.groups):
                for area in group:
                    drive = fixed[area]
                    for source, name in self.sources[area]:
                        if source in heard:
                            drive = self._add_projection(drive, heard[source], weights[name], out=response[area])
                    torch.clamp(drive, min=0.0, out=response[area])
                    activity[area].lerp_(response[area], 1.0 - damping)
                yield Moment(step, number, group, heard, response, activity)
                for area in group:
                    length_normalization(activity[area], out=heard[area])

    def _product_weights(self, state: RateState) -> dict[str, Tensor]:
        return {name: weights.to(self.product_type) for name, weights in state.weights.items()}

    def _project(self, heard: Tensor, weights: Tensor) -> Tensor:
        """Drive that a projection brings: (subjects, cases, versions, sources) → (..., targets), in float32."""
        rows = heard.expand(len(weights), -1, -1, -1).flatten(1, 2).to(weights.dtype)
        return torch.bmm(rows, weights.mT).float().unflatten(1, heard.shape[1:3])

    def _add_projection(self, drive: Tensor, heard: Tensor, weights: Tensor, out: Tensor) -> Tensor:
        rows = heard.flatten(1, 2)
        if weights.dtype == drive.dtype:
            torch.baddbmm(drive.flatten(1, 2), rows, weights.mT, out=out.flatten(1, 2))
            return out
        return torch.add(drive, torch.bmm(rows, weights.mT).view_as(drive), out=out)

    # ------------------------------------------------------------------ learn

    def goodness(self, area: str, activity: Tensor) -> Tensor:
        """Goodness of each block of an area: (..., units) → (..., blocks)."""
        settings = self.net.nodes[area]["goodness"]
        measure = goodness_equations.MEASURES[settings.measure]
        return measure.of(activity.unflatten(-1, (settings.blocks, -1)))

    def log_odds(self, area: str, goodness: Tensor) -> Tensor:
        """Log odds of each block that it is looking at real data (eq. 1), from its goodness."""
        return goodness_equations.log_odds(goodness, *self._logistic(area))

    def p_positive(self, area: str, goodness: Tensor) -> Tensor:
        """Probability of each block that it is looking at real data (eq. 1), from its goodness."""
        return goodness_equations.p_positive(goodness, *self._logistic(area))

    def _logistic(self, area: str) -> tuple[float, float, float]:
        """Threshold, temperature and sign of an area's eq. 1."""
        settings = self.net.nodes[area]["goodness"]
        return settings.threshold, settings.temperature, goodness_equations.SIGNS[settings.sign]

    def learn(
        self,
        state: RateState,
        percept: Percept,
        context: Mapping[str, Tensor],
        images: Mapping[str, Tensor],
        is_positive: Sequence[bool],
        plasticity: Plasticity,
    ) -> None:
        """One local update from one minibatch (eq. 3), averaged over steps; ``state`` is changed in place.

        Each version's gradient is a mean over cases, and the versions' gradients are added. Nothing is kept of a step
        but its share of the sum.

        percept      of ``images``, from the same weights
        context      as in :meth:`settle`, one version for each entry of ``is_positive``
        is_positive  for each version, whether it is real data; positive alone is wake, negative alone is sleep
        """
        gradients = _Gradients(self, state, percept, images, context, len(is_positive))
        positive = torch.tensor(is_positive, device=self.device, dtype=torch.float32).view(-1, 1)
        reals = [version for version, real in enumerate(is_positive) if real]
        peers = {a: peer_derivative(state.mean_activity[a], plasticity.peer_normalization) for a in self.areas}
        mean_activity = {area: torch.zeros_like(mean) for area, mean in state.mean_activity.items()}

        for moment in self.settle(state, percept, context):
            gradients.hear(moment)
            for area in moment.areas:
                settings = self.net.nodes[area]["goodness"]
                blocks = (settings.blocks, -1)
                activity = moment.activity[area].unflatten(-1, blocks)
                log_odds = self.log_odds(area, self.goodness(area, moment.activity[area]))
                gain = (
                    (1.0 - self.dynamics.damping)
                    * goodness_equations.SIGNS[settings.sign]
                    * goodness_equations.MEASURES[settings.measure].slope(activity.shape[-1])
                    / settings.temperature
                )
                derivative = plasticity_equations.drive_derivative(
                    activity,
                    moment.response[area].unflatten(-1, blocks),
                    plasticity_equations.residual(log_odds, positive),
                    gain,
                    out=gradients.scratch(area).unflatten(-1, blocks),
                ).flatten(-2)
                for version in reals:
                    mean_activity[area] += moment.activity[area][:, :, version].mean(1) / len(reals)
                    if plasticity.peer_normalization:
                        derivative[:, :, version] += peers[area].unsqueeze(1)
                gradients.add(moment, area, derivative)

        for area in self.areas:
            rate = plasticity_equations.unit_input_rate(plasticity.learning_rate, self.inputs_heard[area])
            smooth = (rate, plasticity.gradient_average, plasticity.weight_cost)
            for source, name in self.sources[area]:
                gradient = gradients.of_projection(source, area, name)
                plasticity_equations.apply_gradient(state.weights[name], state.weight_averages[name], gradient, *smooth)
            # The weight cost leaves biases alone, as in the author's code.
            plasticity_equations.apply_gradient(
                state.biases[area],
                state.bias_averages[area],
                gradients.of_bias(area),
                rate,
                plasticity.gradient_average,
                0.0,
            )
            if reals:
                average = mean_activity[area] / self.dynamics.steps
                state.mean_activity[area].lerp_(average, 1.0 - plasticity.activity_average)


class _Gradients:
    """Sums the local gradients of a settle in one working set, whatever its number of steps.

    A few steps of derivatives and of what was heard are gathered side by side, so that one product serves them all.
    What comes from a clamped area is the same at every step: the derivatives are summed first and meet it once.
    """

    def __init__(
        self,
        engine: RateEngine,
        state: RateState,
        percept: Percept,
        images: Mapping[str, Tensor],
        context: Mapping[str, Tensor],
        versions: int,
    ) -> None:
        self.engine, self.cases = engine, next(iter(percept.activity.values())).shape[1]
        self.clamped = {area: length_normalization(x.float()) for area, x in (*images.items(), *context.items())}
        self.slots = min(engine.dynamics.steps, STEPS_PER_PRODUCT)
        shape = (next(iter(state.biases.values())).shape[0], self.slots, self.cases, versions)
        self.derivatives, self.scratches, self.heard, self.sums, self.products = {}, {}, {}, {}, {}
        for area in engine.areas:
            units = engine.net.nodes[area]["units"]
            make = {"device": engine.device, "dtype": engine.product_type}
            self.derivatives[area] = torch.empty(*shape, units, **make)
            if engine.product_type is not torch.float32:
                self.scratches[area] = torch.empty(shape[0], *shape[2:], units, device=engine.device)
            self.sums[area] = torch.zeros(shape[0], *shape[2:], units, device=engine.device)
        for number, group in enumerate(engine.groups):
            for source in {s for area in group for s, _ in engine.sources[area] if s in engine.areas}:
                units = engine.net.nodes[source]["units"]
                self.heard[number, source] = torch.empty(*shape, units, device=engine.device, dtype=engine.product_type)
        self.slot = 0

    def hear(self, moment: Moment) -> None:
        """Keep what the moment's areas listened to."""
        self.slot = (moment.step - 1) % self.slots
        for (number, source), gathered in self.heard.items():
            if number == moment.group:
                gathered[:, self.slot] = moment.heard[source]

    def scratch(self, area: str) -> Tensor:
        """Where an area's derivative of this moment is to be written, (subjects, cases, versions, units), float32."""
        return self.scratches[area] if self.scratches else self.derivatives[area][:, self.slot]

    def add(self, moment: Moment, area: str, derivative: Tensor) -> None:
        """Take in an area's derivative by its drive."""
        if self.scratches:
            self.derivatives[area][:, self.slot] = derivative
        if self.slot + 1 < self.slots and moment.step < self.engine.dynamics.steps:
            return
        gathered = self.derivatives[area][:, : self.slot + 1]
        self.sums[area] += gathered.sum(1, dtype=torch.float32)
        for source, name in self.engine.sources[area]:
            if (heard := self.heard.get((moment.group, source))) is not None:
                heard = heard[:, : self.slot + 1]
                product = plasticity_equations.weight_gradient(gathered.flatten(1, 3), heard.flatten(1, 3))
                self.products[name] = self.products[name] + product if name in self.products else product.float()

    def of_projection(self, source: str, target: str, name: str) -> Tensor:
        """Gradient of a projection's weights, (subjects, target units, source units): a mean over cases and steps."""
        gradient = self.products.get(name)
        if source in self.clamped:
            derivative, heard = self.sums[target], self.clamped[source]
            if heard.shape[2] == 1:  # one image for all versions
                derivative = derivative.sum(2, keepdim=True)
            heard = heard.expand(*derivative.shape[:3], -1)
            product_type = self.engine.product_type
            gradient = plasticity_equations.weight_gradient(
                derivative.flatten(1, 2).to(product_type), heard.flatten(1, 2).to(product_type)
            ).float()
        gradient = gradient.mul_(1.0 / (self.cases * self.engine.dynamics.steps))
        return gradient.mul_(self.engine.masks[name]) if name in self.engine.masks else gradient

    def of_bias(self, area: str) -> Tensor:
        """Gradient of an area's biases, (subjects, units)."""
        return self.sums[area].sum((1, 2)) / (self.cases * self.engine.dynamics.steps)
