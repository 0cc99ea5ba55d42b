"""The rate engine: damped recurrent Forward-Forward on any checked graph (§3.4), in closed form.

Arrays are (subjects, cases, versions, units), as ``state.py`` explains; a projection takes cases and versions as rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import networkx as nx
import torch
from torch import Tensor

from cortexff.engines import ranks
from cortexff.engines.gradients import AreaGradient, Gradients
from cortexff.engines.projections import AllToAll, Local
from cortexff.engines.recording import Recordings, Tape, cuda_graph
from cortexff.engines.settling import Settling
from cortexff.engines.state import Moment, Part, Percept, Plasticity, RateDynamics, RateState
from cortexff.engines.workspace import Take, Workspace
from cortexff.equations import goodness as goodness_equations
from cortexff.equations.normalization import length_normalization
from cortexff.equations.plasticity import apply_gradient, unit_input_rate
from cortexff.errors import CortexffError
from cortexff.graph import afferents, hidden_areas
from cortexff.receptive_fields import connection_mask

WEIGHTS_FOR_BFLOAT16 = 200_000  # of the largest projection; with 40,000 bfloat16 was slower, with 160,000 faster


class RateEngine:
    """``start`` makes weights, ``look`` and ``settle`` bring activity, ``learn`` changes the weights.

    tiled  store and multiply local receptive fields in tiles; without, as full matrices with zeros (for comparison)
    tape   records what :meth:`learn` has computed before, to play it again (``recording``); ``auto`` is a CUDA graph on
           a GPU and nothing elsewhere, None is nothing
    """

    def __init__(
        self,
        net: nx.MultiDiGraph,
        dynamics: RateDynamics | None = None,
        tiled: bool = True,
        tape: Tape | Literal["auto"] | None = "auto",
    ) -> None:
        self.net = net
        self.dynamics = dynamics or RateDynamics()
        check_steps(net, self.dynamics.steps)
        self.device = torch.device(self.dynamics.device)
        self.product_type = product_type(net, self.dynamics.precision, self.dynamics.device)
        self.areas = hidden_areas(net)
        self.units = dict(net.nodes(data="units"))
        self.sources = {area: afferents(net, area) for area in self.areas}  # (source area, projection name)
        # Areas are updated together, from what they heard of each other the step before.
        self.groups = [self.areas[0::2], self.areas[1::2]] if self.dynamics.alternating else [self.areas]
        self.projections: dict[str, AllToAll] = {}
        for source, target, name, receptive_field in net.edges(keys=True, data="receptive_field"):
            units = (self.units[source], self.units[target])
            if receptive_field is None:
                self.projections[name] = AllToAll(source, *units)
                continue
            shapes = [net.nodes[area]["shape"] for area in (source, target)]
            if tiled:
                self.projections[name] = Local(source, *shapes, receptive_field, self.device)
            else:
                mask = torch.from_numpy(connection_mask(*shapes, receptive_field)).float().to(self.device)
                self.projections[name] = AllToAll(source, *units, mask)
        self.inputs_heard = {
            area: sum(self.projections[name].inputs for _, name in self.sources[area]) for area in self.areas
        }
        self.workspace = Workspace(self.device)
        self.converted: dict[str, list[tuple[Tensor, int, Tensor]]] = {}
        self.positive: dict[tuple[bool, ...], Tensor] = {}
        if tape == "auto":
            tape = cuda_graph if self.device.type == "cuda" else None
        self.recordings = Recordings(tape, self.device) if tape else None

    # ------------------------------------------------------------------ start

    def start(self, seed: int, subjects: Sequence[int]) -> RateState:
        """Weights of newborn subjects: each projection brings its share of a drive of unit variance."""
        state = RateState()
        for area in self.areas:
            units = self.units[area]
            for _, name in self.sources[area]:
                shares = len(self.sources[area])
                state.weights[name] = self.projections[name].newborn(name, seed, subjects, shares, self.device)
                state.weight_averages[name] = torch.zeros_like(state.weights[name])
            state.biases[area] = torch.zeros(len(subjects), units, device=self.device)
            state.bias_averages[area] = torch.zeros_like(state.biases[area])
            state.mean_activity[area] = torch.full_like(state.biases[area], 0.5)
        return state

    # ----------------------------------------------------------------- settle

    def look(self, state: RateState, images: Mapping[str, Tensor]) -> Percept:
        """The single bottom-up pass that starts every settle (§3.4).

        images   input area → (subjects or 1, cases, 1 or versions, units); normalized here
        """
        weights = self.product_weights(state)
        cases = next(iter(images.values())).shape[1:3]
        input_drive, brought, activity, heard = {}, {}, {}, {}
        with self.workspace.lend("look") as take:
            for area, image in images.items():
                heard[area] = length_normalization(image.float())
            for area in self.areas:
                drive = state.biases[area][:, None, None].expand(-1, *cases, -1)
                drive = drive.clone(memory_format=torch.contiguous_format)
                for source, name in self.sources[area]:
                    if source in images:
                        drive += self.bring(take, name, weights, heard[source], drive.shape)
                input_drive[area] = drive
                for source, name in afferents(self.net, area, "bottom_up"):
                    if source not in images:
                        brought[name] = self.bring(take, name, weights, heard[source], drive.shape).clone()
                        drive = drive + brought[name]
                activity[area] = drive.clamp(min=0.0)
                heard[area] = length_normalization(activity[area], out=take(f"heard by all/{area}", drive.shape))
        return Percept(input_drive, brought, activity)

    def settle(
        self,
        state: RateState,
        percept: Percept,
        context: Mapping[str, Tensor],
        steps: int | None = None,
    ) -> Iterator[Moment]:
        """Let the hidden areas run on a still image with their context held fixed (§3.4).

        context   context area → (subjects or 1, cases or 1, versions, units), such as candidate labels
        steps     how many; those of the dynamics unless given
        yields    a moment a step (two where areas alternate); of a feed-forward net one, the bottom-up pass. Areas that
                  responded in it are heard once the next one is asked for: what is added to their activity is, too
        """
        with self.workspace.lend("settle") as take:
            yield from self._settle(take, self.product_weights(state), percept, context, steps)

    def film(
        self, state: RateState, frames: Iterable[Mapping[str, Tensor]], context: Mapping[str, Tensor]
    ) -> Iterator[Moment]:
        """Let the hidden areas run while the image changes from step to step.

        The first frame has a bottom-up pass; from then on activity is carried over, so that a film which stands still
        is a :meth:`settle`. In a feed-forward net every frame has a pass of its own.

        frames   for each step, input area → what it is clamped to, as in :meth:`look`; all of one shape
        context  as in :meth:`settle`
        yields   as :meth:`settle`, with as many steps as frames
        """
        weights = self.product_weights(state)
        with self.workspace.lend("film") as take:
            for step, frame in enumerate(frames, start=1):
                if step == 1 or not self.dynamics.steps:
                    now = Settling(self, take, weights, self.look(state, frame), context, gathered=0)
                    now.begin()
                else:
                    now.show(frame, state.biases)
                yield from self._step(now, step)

    def _settle(
        self,
        take: Take,
        weights: Mapping[str, Tensor],
        percept: Percept,
        context: Mapping[str, Tensor],
        steps: int | None = None,
        gathered: int = 0,
        borrowed: Sequence[bool] = (),
    ) -> Iterator[Moment]:
        """Settle with arrays of the caller's; ``gathered`` steps of what is heard stay in the rings, for learning."""
        now = Settling(self, take, weights, percept, context, gathered, borrowed)
        steps = self.dynamics.steps if steps is None else steps
        last = steps if self.dynamics.steps else 1
        for step in range(1, last + 1):
            if step == 1 or (gathered and (step - 1) % gathered == 0):
                now.begin()
            yield from self._step(now, step, last)

    def _step(self, now: Settling, step: int, last: int | None = None) -> Iterator[Moment]:
        """The moments of a step; after the last step, where it is known, areas need not be heard any more."""
        if not self.dynamics.steps:
            for area in self.areas:
                now.repeat(area)
            yield Moment(step, 0, self.areas, now.response, now.activity, now.rings, dict(now.places))
            return
        for number, group in enumerate(self.groups):
            for area in group:
                now.respond(area)
            now.moved.update(group)
            yield Moment(step, number, group, now.response, now.activity, now.rings, dict(now.places))
            if (step, group) != (last, self.groups[-1]):
                for area in group:
                    now.pass_on(area)

    def product_weights(self, state: RateState) -> dict[str, Tensor]:
        """Weights in the precision of the products, converted anew only when they have changed.

        Two states are kept converted, such as a cohort and the part of it that still learns.
        """
        if self.product_type is torch.float32:
            return state.weights
        found = {}
        for name, weights in state.weights.items():
            kept = self.converted.setdefault(name, [])
            place = next((place for place, (source, *_) in enumerate(kept) if source is weights), None)
            if place is None:
                version, found[name] = None, torch.empty_like(weights, dtype=self.product_type)
            else:
                _, version, found[name] = kept.pop(place)
            if version != weights._version:
                found[name].copy_(weights)
            kept.append((weights, weights._version, found[name]))
            del kept[:-2]
        return found

    def heard(self, take: Take, name: str, activity: Tensor, cases: Sequence[int]) -> Tensor:
        """What a projection hears of a still source, as rows of a ring; ``cases`` are (subjects, cases, versions)."""
        rows = activity.expand(*cases, -1).flatten(1, 2)
        ring = self.projections[name].ring(take, *rows.shape[:2], self.product_type)
        self.projections[name].hear(ring, slice(None), rows)
        return ring

    def bring(
        self, take: Take, name: str, weights: Mapping[str, Tensor], activity: Tensor, shape: Sequence[int]
    ) -> Tensor:
        """What a projection from a still source brings to a drive of a shape, (subjects, cases, versions, units)."""
        heard = self.heard(take, name, activity, shape[:3])
        return self.projections[name].bring(take, weights[name], heard).view(shape)

    def arriving(self, state: RateState, heard: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
        """The drive that projections of one kind bring to each area, (subjects, cases, versions, units).

        heard  area → activity, or what it is clamped to: (subjects or 1, cases, versions, units); those of a case alike
        kind   ``bottom_up``, ``top_down`` or ``lateral``
        """
        weights, arrived = self.product_weights(state), {}
        shape = next(heard[area].shape for area in self.areas)
        with self.workspace.lend("arriving") as take:
            for area in self.areas:
                arrived[area] = torch.zeros(*shape[:3], self.units[area], device=self.device)
                for source, name in afferents(self.net, area, kind):
                    spoken = length_normalization(heard[source].float().expand(*shape[:3], -1))
                    arrived[area] += self.bring(take, name, weights, spoken, arrived[area].shape)
        return arrived

    # ------------------------------------------------------------------ learn

    def goodness(self, area: str, activity: Tensor) -> Tensor:
        """Goodness of each block of an area: (..., units) → (..., blocks)."""
        measure = goodness_equations.MEASURES[self.net.nodes[area]["goodness"].measure]
        return measure.of(self.in_blocks(area, activity))

    def in_blocks(self, area: str, activity: Tensor) -> Tensor:
        """A view of an area's units block by block: (..., units) → (..., blocks, units of a block)."""
        blocks = self.net.nodes[area]["goodness"].blocks
        return activity.view(*activity.shape[:-1], blocks, self.units[area] // blocks)

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
        borrowed: Sequence[bool] = (),
        then: Callable[[str, AreaGradient], None] = lambda area, gradient: None,
    ) -> None:
        """One local update from one minibatch (eq. 3), averaged over steps; ``state`` is changed in place.

        Each version's gradient is a mean over cases, and the versions' gradients are added. Nothing is kept of a step
        but its share of the sum. Where a run has several ranks, each brings its part of the minibatch, and all make the
        same update.

        percept      of ``images``, from the same weights
        context      as in :meth:`settle`, one version for each entry of ``is_positive``
        is_positive  for each version, whether it is real data; positive alone is wake, negative alone is sleep
        minibatch    cases of all ranks together, if there are others
        borrowed     for each version, whether what areas hear of hidden areas above is that of another case: then it is
                     an internal representation that is negative, not the data (§3.5)
        then         what is done, in place, with the gradient of each area before the area changes
        """
        cases = minibatch or _cases(images)
        gradients = self.gradients(state, percept, context, images, is_positive, plasticity, cases, borrowed)
        # What ranks have to say of one area travels while the next one is finished, unless it all comes recorded.
        summed = [(gradient, ranks.add_up(gradient.arrays())) for gradient in gradients]
        for area, (gradient, wait) in zip(self.areas, summed, strict=True):
            wait()
            then(area, gradient)
            self.apply(state, area, gradient, is_positive, plasticity, cases)

    def learn_in_parts(
        self, state: RateState, parts: Iterable[Part], is_positive: Sequence[bool], plasticity: Plasticity, cases: int
    ) -> None:
        """One update from cases too many to be held at once; ``state`` is changed in place when all have been seen.

        parts        each has some of the cases in some of the versions, which can come one by one
        is_positive  for each version of the whole update
        cases        of the whole update; each version's gradient is a mean over them
        """
        total: list[AreaGradient] | None = None
        for part in parts:
            found = self.gradients(
                state, part.percept, part.context, part.images, part.is_positive, plasticity, cases
            )  # in arrays that the next part uses again
            if total is None:
                total = [gradient.copy() for gradient in found]
            else:
                for gradient, more in zip(total, found, strict=True):
                    gradient.add(more)
        for area, gradient in zip(self.areas if total else (), total or (), strict=True):
            self.apply(state, area, gradient, is_positive, plasticity, cases)

    def gradients(
        self,
        state: RateState,
        percept: Percept,
        context: Mapping[str, Tensor],
        images: Mapping[str, Tensor],
        is_positive: Sequence[bool],
        plasticity: Plasticity,
        cases: int,
        borrowed: Sequence[bool] = (),
    ) -> Iterable[AreaGradient]:
        """What each area has to learn from some of an update's ``cases``; arrays that the next call uses again."""
        share = 1.0 / (cases * self.dynamics.moments)
        here = _cases(images)
        return self._gradients(state, percept, here, context, images, is_positive, plasticity, share, borrowed)

    def _gradients(
        self,
        state: RateState,
        percept: Percept,
        cases: int,
        context: Mapping[str, Tensor],
        images: Mapping[str, Tensor],
        is_positive: Sequence[bool],
        plasticity: Plasticity,
        share: float,
        borrowed: Sequence[bool],
    ) -> Iterable[AreaGradient]:
        """The gradients of all areas, one after the other: settled through, or recorded and played again."""
        weights, real = self.product_weights(state), tuple(is_positive)
        if real not in self.positive:
            self.positive[real] = torch.tensor(real, dtype=torch.float32, device=self.device).view(-1, 1)

        def work(workspace: Workspace, arrays: Mapping[str, Mapping[str, Tensor]]) -> Iterator[AreaGradient]:
            images, context = arrays["images"], arrays["context"]
            percept = Percept(arrays["input_drive"], arrays["brought"], arrays["activity"])
            with workspace.lend("learn") as take:
                clamped, positive = {**images, **context}, self.positive[real]
                sums = Gradients(self, take, state, cases, clamped, real, positive, plasticity, share)
                for moment in self._settle(take, weights, percept, context, gathered=sums.slots, borrowed=borrowed):
                    for area in moment.areas:
                        sums.add(moment, area)
                for area in self.areas:
                    yield sums.close(area)

        arrays = {**vars(percept), "context": context, "images": images}
        if self.recordings is None:
            return work(self.workspace, arrays)
        read = [*weights.values(), *state.mean_activity.values()]
        held = ((array.data_ptr(), array.shape) for array in read)
        key = (real, plasticity.rule, share, tuple(borrowed), *weights, *held)
        return self.recordings.play(key, arrays, work)

    def apply(
        self,
        state: RateState,
        area: str,
        gradient: AreaGradient,
        is_positive: Sequence[bool],
        plasticity: Plasticity,
        cases: int,
    ) -> None:
        """Change the weights and biases of an area by its gradient, and its mean activity where it saw real data."""
        rate = unit_input_rate(plasticity.learning_rate, self.inputs_heard[area])
        keep = plasticity.gradient_average
        for name, of_weights in gradient.weights.items():
            average = state.weight_averages[name]
            apply_gradient(state.weights[name], average, of_weights, rate, keep, plasticity.weight_cost)
        # The weight cost leaves biases alone, as in the author's code.
        apply_gradient(state.biases[area], state.bias_averages[area], gradient.bias, rate, keep, 0.0)
        if any(is_positive):
            average = gradient.seen * (1.0 / (cases * self.dynamics.moments) / sum(is_positive))
            state.mean_activity[area].lerp_(average, 1.0 - plasticity.activity_average)


def _cases(images: Mapping[str, Tensor]) -> int:
    """Cases at hand. What they evoke tells, too, but spiking units would have to spike for it."""
    return max(image.shape[1] for image in images.values())


def check_steps(net: nx.MultiDiGraph, steps: int) -> None:
    """Raises CortexffError where a net without steps has projections that would never be heard."""
    inputs = {area for area, role in net.nodes(data="role") if role == "input"}
    for source, _, name, kind in net.edges(keys=True, data="kind"):
        if not steps and kind != "bottom_up" and source not in inputs:
            raise CortexffError(
                f"engine.steps is 0, so there is nothing but the bottom-up pass, but {net.graph['source']} has the "
                f"{kind} projection {name}: give engine.steps, or take the projection out"
            )


def product_type(net: nx.MultiDiGraph, precision: str, device: str = "cpu") -> torch.dtype:
    """What products are made in, by the name of a precision or ``auto``."""
    precision = best_precision(net, device) if precision == "auto" else precision
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


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
