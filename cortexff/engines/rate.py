"""The rate engine: damped recurrent Forward-Forward on any checked graph (§3.4), in closed form.

Arrays are (subjects, cases, versions, units), as ``state.py`` explains; a projection takes cases and versions as rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from cortexff.engines import ranks
from cortexff.engines.projections import AllToAll, Local
from cortexff.engines.state import Activity, Moment, Percept, Plasticity, RateDynamics, RateState
from cortexff.engines.workspace import Take, Workspace
from cortexff.equations import goodness as goodness_equations
from cortexff.equations import plasticity as plasticity_equations
from cortexff.equations.normalization import length_normalization, peer_derivative
from cortexff.graph import afferents, hidden_areas
from cortexff.random_streams import generator

WEIGHTS_FOR_BFLOAT16 = 200_000  # of the largest projection; with 40,000 bfloat16 was slower, with 160,000 faster
STEPS_PER_PRODUCT = 8  # steps gathered before one gradient product; bounds memory whatever the number of steps


class RateEngine:
    """``start`` makes weights, ``look`` and ``settle`` bring activity, ``learn`` changes the weights.

    tiled  store and multiply local receptive fields in tiles; without, as full matrices with zeros (for comparison)
    """

    def __init__(self, net: nx.MultiDiGraph, dynamics: RateDynamics | None = None, tiled: bool = True) -> None:
        self.net = net
        self.dynamics = dynamics or RateDynamics()
        self.device = torch.device(self.dynamics.device)
        precision = self.dynamics.precision
        precision = best_precision(net, self.dynamics.device) if precision == "auto" else precision
        self.product_type = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self.areas = hidden_areas(net)
        self.units = dict(net.nodes(data="units"))
        self.sources = {area: afferents(net, area) for area in self.areas}  # (source area, projection name)
        # Areas are updated together, from what they heard of each other the step before.
        self.groups = [self.areas[0::2], self.areas[1::2]] if self.dynamics.alternating else [self.areas]
        self.projections: dict[str, AllToAll] = {}
        for source, target, name, receptive_field in net.edges(keys=True, data="receptive_field"):
            if receptive_field is None:
                self.projections[name] = AllToAll(source, self.units[source], self.units[target])
            else:
                shapes = (net.nodes[area]["shape"] for area in (source, target))
                self.projections[name] = Local(source, *shapes, receptive_field, self.device, tiled)
        self.inputs_heard = {
            area: sum(self.projections[name].inputs for _, name in self.sources[area]) for area in self.areas
        }
        self.workspace = Workspace(self.device)
        self.converted: dict[str, tuple[Tensor, int, Tensor]] = {}

    # ------------------------------------------------------------------ start

    def start(self, seed: int, subjects: Sequence[int]) -> RateState:
        """Weights of newborn subjects: each projection brings its share of a drive of unit variance."""
        state = RateState()
        for area in self.areas:
            units = self.units[area]
            for source, name in self.sources[area]:
                projection = self.projections[name]
                scale = torch.from_numpy(1.0 / np.sqrt(projection.fan_in * len(self.sources[area]))).float()
                drawn = []
                for subject in subjects:
                    stream = generator(seed, subject, f"weights/{name}")
                    matrix = torch.from_numpy(stream.standard_normal((units, self.units[source]), dtype=np.float32))
                    drawn.append(projection.stored(matrix.mul_(scale.unsqueeze(-1))))
                state.weights[name] = torch.stack(drawn).to(self.device)
                if projection.mask is not None:
                    state.weights[name] *= projection.mask
                state.weight_averages[name] = torch.zeros_like(state.weights[name])
            state.biases[area] = torch.zeros(len(subjects), units, device=self.device)
            state.bias_averages[area] = torch.zeros_like(state.biases[area])
            state.mean_activity[area] = torch.full_like(state.biases[area], 0.5)
        return state

    # ----------------------------------------------------------------- settle

    def look(self, state: RateState, images: Mapping[str, Tensor]) -> Percept:
        """The single bottom-up pass that starts every settle (§3.4).

        images   input area → (subjects or 1, cases, 1, units); normalized here
        returns  the input's drive and the activity of every hidden area, both (subjects, cases, 1, units)
        """
        weights = self._product_weights(state)
        cases = next(iter(images.values())).shape[1:3]
        input_drive, activity, heard = {}, {}, {}
        with self.workspace.lend("look") as take:
            for area, image in images.items():
                heard[area] = length_normalization(image.float())
            for area in self.areas:
                drive = state.biases[area][:, None, None].expand(-1, *cases, -1)
                drive = drive.clone(memory_format=torch.contiguous_format)
                for source, name in self.sources[area]:
                    if source in images:
                        self._add_drive(take, drive, name, heard[source], weights[name])
                input_drive[area], activity[area] = drive, drive.clone()
                for source, name in afferents(self.net, area, "bottom_up"):
                    if source not in images:
                        self._add_drive(take, activity[area], name, heard[source], weights[name])
                activity[area].clamp_(min=0.0)
                heard[area] = length_normalization(activity[area], out=take(f"heard by all/{area}", drive.shape))
        return Percept(input_drive, activity)

    def settle(
        self,
        state: RateState,
        percept: Percept,
        context: Mapping[str, Tensor],
        steps: int | None = None,
        gathered: int = 0,
    ) -> Iterator[Moment]:
        """Let the hidden areas run on a still image with their context held fixed (§3.4).

        context   context area → (subjects or 1, cases or 1, versions, units), such as candidate labels
        steps     how many; those of the dynamics unless given
        gathered  so many steps of what was heard are kept in the rings, for learning
        yields    a moment a step (two where areas alternate)
        """
        steps = self.dynamics.steps if steps is None else steps
        weights = self._product_weights(state)
        fixed, activity, response, rings = {}, {}, {}, {}
        with self.workspace.lend("settle") as take:
            clamped = {area: length_normalization(label.float()) for area, label in context.items()}
            shapes = [each.shape[:3] for each in (*percept.input_drive.values(), *clamped.values())]
            cases = torch.broadcast_shapes(*shapes)
            for area in self.areas:
                shape = (*cases, self.units[area])
                fixed[area] = take(f"fixed/{area}", shape).copy_(percept.input_drive[area])
                activity[area] = take(f"activity/{area}", shape).copy_(percept.activity[area])
                response[area] = take(f"response/{area}", shape)
                for source, name in self.sources[area]:
                    if source in clamped:
                        self._add_drive(take, fixed[area], name, clamped[source], weights[name])
                    elif source in self.areas:
                        size = (cases[0], gathered + 1, cases[1] * cases[2], self.product_type)
                        rings[name] = self.projections[name].ring(take, *size)

            # Projections that share a ring hear by one copy.
            listeners = {
                area: {id(rings[name]): name for *_, name in self.net.out_edges(area, keys=True)}.values()
                for area in self.areas
            }

            def pass_on(area: str, place: int) -> None:
                heard = take(f"normalized/{self.units[area]}", activity[area].shape)
                length_normalization(activity[area], out=heard)
                for name in listeners[area]:
                    self.projections[name].hear(take, rings[name], place, heard.flatten(1, 2))

            places = dict.fromkeys(self.areas, 0)
            for step in range(1, steps + 1):
                if step == 1 or (gathered and (step - 1) % gathered == 0):
                    for area in self.areas:
                        places[area] = 0
                        pass_on(area, 0)
                for number, group in enumerate(self.groups):
                    for area in group:
                        drive, out = fixed[area].flatten(1, 2), response[area].flatten(1, 2)
                        for source, name in self.sources[area]:
                            if name in rings:
                                self.projections[name].add_drive(
                                    take, drive, weights[name], rings[name], places[source], out
                                )
                                drive = out
                        torch.clamp(drive, min=0.0, out=out)
                        activity[area].lerp_(response[area], 1.0 - self.dynamics.damping)
                    yield Moment(step, number, group, response, activity, rings, dict(places))
                    if (step, group) != (steps, self.groups[-1]):
                        for area in group:
                            places[area] += gathered > 0
                            pass_on(area, places[area])

    def _product_weights(self, state: RateState) -> dict[str, Tensor]:
        """Weights in the precision of the products, converted anew only when they have changed."""
        if self.product_type is torch.float32:
            return state.weights
        for name, weights in state.weights.items():
            source, version, converted = self.converted.get(name, (None, None, None))
            if source is not weights:  # another settle may still need what was converted before
                converted = torch.empty_like(weights, dtype=self.product_type)
            if source is not weights or version != weights._version:
                self.converted[name] = (weights, weights._version, converted.copy_(weights))
        return {name: self.converted[name][2] for name in state.weights}

    def _ring(self, take: Take, name: str, heard: Tensor, cases: Sequence[int]) -> Tensor:
        """What a projection hears of a still source, in one place; ``cases`` are (subjects, cases, versions)."""
        rows = heard.expand(*cases, -1).flatten(1, 2)
        ring = self.projections[name].ring(take, *rows.shape[:1], 1, rows.shape[1], self.product_type)
        self.projections[name].hear(take, ring, 0, rows)
        return ring

    def _add_drive(self, take: Take, drive: Tensor, name: str, heard: Tensor, weights: Tensor) -> None:
        """Add to a drive, (subjects, cases, versions, units), what a projection brings from a still source."""
        ring, rows = self._ring(take, name, heard, drive.shape[:3]), drive.flatten(1, 2)
        self.projections[name].add_drive(take, rows, weights, ring, 0, out=rows)

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
        minibatch: int | None = None,
    ) -> None:
        """One local update from one minibatch (eq. 3), averaged over steps; ``state`` is changed in place.

        Each version's gradient is a mean over cases, and the versions' gradients are added. Nothing is kept of a step
        but its share of the sum. Where a run has several ranks, each brings its part of the minibatch, and all make the
        same update.

        percept      of ``images``, from the same weights
        context      as in :meth:`settle`, one version for each entry of ``is_positive``
        is_positive  for each version, whether it is real data; positive alone is wake, negative alone is sleep
        minibatch    cases of all ranks together, if there are others
        """
        with self.workspace.lend("learn") as take:
            gradients = _Gradients(self, take, state, percept, is_positive, plasticity, minibatch)
            for moment in self.settle(state, percept.shown(len(is_positive)), context, gathered=gradients.slots):
                for area in moment.areas:
                    gradients.add(moment, area)
            summed = {}
            for area in self.areas:
                summed[area] = ranks.add_up(gradients.close(area, {**images, **context}))
            for area in self.areas:
                summed[area]()
                gradients.apply(area)


class _Gradients:
    """The local gradients of one update, summed over a settle in one working set, whatever its number of steps.

    A few steps of derivatives and of what was heard are gathered side by side, so that one product serves them all.
    What comes from a clamped area is the same at every step: the derivatives are summed first and meet it once.
    """

    def __init__(
        self,
        engine: RateEngine,
        take: Take,
        state: RateState,
        percept: Percept,
        is_positive: Sequence[bool],
        plasticity: Plasticity,
        minibatch: int | None,
    ) -> None:
        self.engine, self.take, self.state, self.plasticity = engine, take, state, plasticity
        self.positive = torch.tensor(is_positive, device=engine.device, dtype=torch.float32).view(-1, 1)
        self.reals = [version for version, real in enumerate(is_positive) if real]
        subjects, cases = next(iter(percept.activity.values())).shape[:2]
        self.slots = min(engine.dynamics.steps, STEPS_PER_PRODUCT)
        self.share = 1.0 / ((minibatch or cases) * engine.dynamics.steps)  # of one case and step in the means
        self.derivatives, self.sums, self.seen, self.pulls = {}, {}, {}, {}
        for area in engine.areas:
            shape = (subjects, self.slots, cases, len(is_positive), engine.units[area])
            self.derivatives[area] = take(f"derivatives/{area}", shape, engine.product_type)
            self.sums[area] = take(f"sums/{area}", (subjects, *shape[2:])).zero_()
            self.seen[area] = torch.zeros_like(state.mean_activity[area])
            self.pulls[area] = peer_derivative(state.mean_activity[area], plasticity.peer_normalization * self.share)
        self.gradients = {name: take(f"weights/{name}", weights.shape) for name, weights in state.weights.items()}
        self.biases: Activity = {}

    def add(self, moment: Moment, area: str) -> None:
        """Take in an area's derivative by its drive, of one step (eq. 3)."""
        engine, slot = self.engine, (moment.step - 1) % self.slots
        settings = engine.net.nodes[area]["goodness"]
        blocks = (settings.blocks, -1)
        activity = moment.activity[area].unflatten(-1, blocks)
        gathered = self.derivatives[area][:, slot]
        exact = gathered.dtype is torch.float32
        derivative = gathered if exact else self.take(f"derivative/{engine.units[area]}", gathered.shape)
        log_odds = engine.log_odds(area, engine.goodness(area, moment.activity[area]))
        gain = (
            (1.0 - engine.dynamics.damping)
            * goodness_equations.SIGNS[settings.sign]
            * goodness_equations.MEASURES[settings.measure].slope(activity.shape[-1])
            / settings.temperature
        )
        plasticity_equations.drive_derivative(
            activity,
            moment.response[area].sign_().unflatten(-1, blocks),  # rectified: its sign says who is active
            plasticity_equations.residual(log_odds, self.positive),
            gain * self.share,
            out=derivative.unflatten(-1, blocks),
        )
        for version in self.reals:
            self.seen[area] += moment.activity[area][:, :, version].sum(1)
            if self.plasticity.peer_normalization:
                derivative[:, :, version] += self.pulls[area].unsqueeze(1)
        self.sums[area] += derivative
        if not exact:
            gathered.copy_(derivative)
        full = slot + 1 == self.slots or moment.step == engine.dynamics.steps
        for source, name in engine.sources[area]:
            projection = engine.projections[name]
            if name in moment.rings and (full or projection.every_step):
                since = slot if projection.every_step else 0
                steps = self.derivatives[area][:, since : slot + 1].flatten(2, 3)
                first, more = moment.places[source] - (slot - since), moment.step > steps.shape[1]
                projection.add_gradient(self.take, steps, moment.rings[name], first, self.gradients[name], more)

    def close(self, area: str, clamped: Mapping[str, Tensor]) -> list[Tensor]:
        """Finish an area's sums with what it hears of clamped areas; returns all that ranks have to add up."""
        engine = self.engine
        for source, name in engine.sources[area]:
            if source in clamped:
                heard, derivative = length_normalization(clamped[source].float()), self.sums[area]
                if heard.shape[2] == 1:  # one image for all versions
                    derivative = derivative.sum(2, keepdim=True)
                rows = derivative.flatten(1, 2).unsqueeze(1).to(engine.product_type)
                ring = engine._ring(self.take, name, heard, derivative.shape[:3])
                engine.projections[name].add_gradient(self.take, rows, ring, 0, self.gradients[name], more=False)
            if (mask := engine.projections[name].mask) is not None:
                self.gradients[name] *= mask
        self.biases[area] = self.sums[area].sum((1, 2))
        gradients = [self.gradients[name] for _, name in engine.sources[area]]
        return [*gradients, self.biases[area], self.seen[area]]

    def apply(self, area: str) -> None:
        """Change an area's weights, biases and running mean activity."""
        engine, state, plasticity = self.engine, self.state, self.plasticity
        rate = plasticity_equations.unit_input_rate(plasticity.learning_rate, engine.inputs_heard[area])
        keep = plasticity.gradient_average
        for _, name in engine.sources[area]:
            plasticity_equations.apply_gradient(
                state.weights[name],
                state.weight_averages[name],
                self.gradients[name],
                rate,
                keep,
                plasticity.weight_cost,
            )
        # The weight cost leaves biases alone, as in the author's code.
        plasticity_equations.apply_gradient(
            state.biases[area], state.bias_averages[area], self.biases[area], rate, keep, 0.0
        )
        if self.reals:
            average = self.seen[area] * (self.share / len(self.reals))
            state.mean_activity[area].lerp_(average, 1.0 - plasticity.activity_average)


def best_precision(net: nx.MultiDiGraph, device: str = "cpu") -> str:
    """The precision of products that is fastest here for a model: ``bfloat16`` or ``float32``.

    bfloat16 costs nothing in accuracy where weights and sums stay float32. It needs a processor that multiplies it, and
    pays once matrices are large.
    """
    if device == "cuda":
        able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    else:
        found = getattr(torch.cpu, "get_capabilities", dict)()
        able = any(found.get(feature) for feature in ("avx512_bf16", "amx_bf16", "bf16"))
    units = net.nodes(data="units")
    largest = max(units[source] * units[target] for source, target in net.edges())
    return "bfloat16" if able and largest >= WEIGHTS_FOR_BFLOAT16 else "float32"
