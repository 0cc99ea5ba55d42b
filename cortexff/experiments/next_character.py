"""Predicting the next character, with negative data that the net makes itself (§4.1, figure 5).

A net reads ten characters and, from the normalized activity of all its hidden areas, a softmax predicts the next. Of a
string of 100, each of the last 90 is predicted from the ten before it, its *context*. The *window* of a predicted
character is that character with the nine before it. So a string has 91 stretches of ten: the first 90 are contexts, the
last 90 are windows, each with its negative. The first stretch is never a window: what it ends on is not predicted.

positive data   the windows of real strings
negative data   ``teacher_forced``: real windows whose last character is replaced by one that the softmax predicts
                ``rolled_out``: the windows of a string that goes on from the first ten real characters by itself

Predictions are drawn from the softmax. One that happens to be right makes negative data of a real window; the paper
leaves none out, and nor do we. The softmax learns by the delta rule, and from real strings only.

An update takes all windows of all strings. A *regime* (a condition of the run) says which phases it goes through, one
after the other, each with the weights that the one before left: nothing (``rest``), both phases at once
(``interleaved``), or positive data first and then negative data from the new model (``wake``, ``sleep``). Where they
are apart, each has a running average of its own gradients, so that nothing negative is in the wake's step. All regimes
of a subject begin with the same weights and draw with the same random numbers.

The paper's first version says that learning apart and at once are "almost identical". Its author is reported to have
withdrawn that; it is a question here, which :func:`report` answers with what was found.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import networkx as nx
import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cortexff import readout
from cortexff.analysis.signal_detection import dprime
from cortexff.engines.rate import RateEngine, check_steps
from cortexff.engines.state import RateDynamics
from cortexff.errors import CortexffError
from cortexff.experiments.reading import SYMBOLS, Reader, of_windows, sample, uniforms, windows, with_last
from cortexff.graph import has_context, hidden_areas, only_area
from cortexff.log import Variable
from cortexff.protocol import table
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.engine import most_blocks, net_of
from cortexff.protocol.fit import check_sleeping
from cortexff.protocol.probe import DPRIME, P_BAR
from cortexff.protocol.schedule import ByExperiment
from cortexff.protocol.settings import Count, Fraction, Name, Section, SoftmaxSettings, Stage, Table
from cortexff.stimuli import text
from cortexff.stimuli.text import CONTEXT

# ---------------------------------------------------------------- what is set


class Text(Section):
    strings: Literal["fables", "aesop"] = "fables"
    training: Annotated[int, Field(ge=1)] | None = None  # the first so many strings to learn from; all unless given
    held_out: Annotated[int, Field(ge=1)] | None = None  # and of those held out
    # The last so many to learn from are held out instead, to choose settings by. ``aesop`` has one string of a fable,
    # ``fables`` three: there a multiple of 3 leaves each fable on one side.
    validation: Count = 0
    strings_at_once: Annotated[int, Field(ge=1)] = 8  # seen together, by each subject: bounds memory


class Engine(Section):
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class SoftmaxByStrings(SoftmaxSettings):
    gradient_average: Annotated[float, Field(ge=0, lt=1)] = 0.9


class Readout(Section):
    softmax: SoftmaxByStrings = SoftmaxByStrings()


class Regime(Section):
    phases: Annotated[list[Literal["interleaved", "wake", "sleep", "rest"]], Field(min_length=1)]
    negatives: Literal["teacher_forced", "rolled_out"] = "rolled_out"

    @model_validator(mode="after")
    def _rest_alone(self) -> Regime:
        if "rest" in self.phases and len(self.phases) > 1:
            raise ValueError("the phase rest stands alone: the softmax would learn in it and in the others too")
        return self


class TableOfRegimes(Table):
    alike: Fraction = 0.1  # share of the gain over fixed weights within which two regimes are called alike


class Protocol(ByExperiment):
    experiment: Literal["next_character"]
    text: Text = Text()
    engine: Engine = Engine()
    readout: Readout = Readout()
    updates: Annotated[int, Field(ge=1)]
    decay_from: Fraction = 1.0
    probe: Annotated[int, Field(ge=1)] | Literal["log", "end"] = "log"
    conditions: Annotated[dict[Name, Regime], Field(min_length=1)]
    table: TableOfRegimes

    @property
    def course(self) -> Stage:
        """The updates of every regime as a stage, each a pass through all strings."""
        return Stage(phase="rest", updates=self.updates, probe=self.probe, decay_from=self.decay_from)


# ------------------------------------------------------------ what is measured

_PROBE, _BLOCK = ("probe", "subject"), ("probe", "subject", "area", "block")
PARTS = {"training": "training strings", "test": "held-out strings"}
KINDS = {
    "pos": "windows of held-out strings",
    "neg": "held-out windows with a predicted last character",
    "generated": "windows of strings generated from the openings of held-out strings",
}
UNREAL = ("neg", "generated")
VARIABLES = {
    **{
        f"perplexity_{part}": Variable(
            _PROBE, "characters", f"perplexity of the next character, {words}", "exp(E[−ln p(next character)])"
        )
        for part, words in PARTS.items()
    },
    **{
        f"accuracy_{part}": Variable(
            _PROBE, "1", f"share of next characters predicted, {words}", "P(argmax_k softmax_k = next character)"
        )
        for part, words in PARTS.items()
    },
    **{f"fp_{k}": Variable(_PROBE, "1", f"false-positive rate, {KINDS[k]}", f"P(p̄ > 0.5), {P_BAR}") for k in UNREAL},
    "miss": Variable(_PROBE, "1", f"miss rate, {KINDS['pos']}", f"P(p̄ ≤ 0.5), {P_BAR}"),
    **{f"dprime_{k}": Variable(_PROBE, "1", f"d′ of {KINDS['pos']} against {KINDS[k]}", DPRIME) for k in UNREAL},
    **{f"goodness_{k}": Variable(_BLOCK, "activity²", f"mean goodness, {v}", "E[G]") for k, v in KINDS.items()},
    **{
        f"log_odds_{k}": Variable(_BLOCK, "nats", f"mean log odds of being real, {v}", "E[±(G − θ)/κ]")
        for k, v in KINDS.items()
    },
    **{f"p_{k}": Variable(_BLOCK, "1", f"mean P(positive), {v}", "E[σ(±(G − θ)/κ)]") for k, v in KINDS.items()},
}


def perplexity(log_probability: Tensor) -> Tensor:
    r"""The number of equally likely characters that would be as hard to predict.

    .. math:: \exp\Bigl(-\frac1n \sum_i \ln p_i\Bigr)

    log_probability  (subjects, characters), ln p of the characters that came, in nats
    returns          (subjects,)
    """
    return log_probability.double().mean(-1).neg().exp()


def prediction(reader: Reader, strings: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Perplexity and accuracy of each subject on strings (strings, symbols)."""
    logs, right = [], []
    for some in reader.parts(strings):
        _, heard = reader.read(strings[some])
        believed = readout.log_belief(reader.cohort.softmax, heard)
        labels = strings[some, CONTEXT:].flatten().long().expand(len(heard), -1)
        logs.append(believed.gather(-1, labels.unsqueeze(-1)).squeeze(-1))
        right.append((believed.argmax(-1) == labels).double())
    log_probability, accuracy = torch.cat(logs, dim=1), torch.cat(right, dim=1).mean(-1)
    accuracy[~log_probability.isfinite().all(-1)] = math.nan  # a diverged network predicts nothing
    return perplexity(log_probability).cpu().numpy(), accuracy.cpu().numpy()


def goodness_of_kinds(reader: Reader, strings: Tensor, uniform: Tensor) -> dict[str, dict[str, Tensor]]:
    """Goodness of each kind of window: kind → area → (subjects, windows, blocks)."""
    engine, found = reader.engine, {kind: {area: [] for area in reader.engine.areas} for kind in KINDS}
    dreams = reader.roll_out(strings[:, :CONTEXT], uniform)
    for some in reader.parts(strings):
        percept, heard = reader.read(strings[some])
        believed = readout.belief(reader.cohort.softmax, heard).unflatten(1, uniform[0, some].shape)
        predicted = with_last(windows(strings[some][None])[:, :, 1:], sample(believed, uniform[:, some]))
        dreamt = windows(dreams[:, some])[:, :, 1:]
        percepts = (of_windows(percept, len(strings[some])), reader.look(predicted), reader.look(dreamt))
        for kind, percept in zip(KINDS, percepts, strict=True):
            for area in engine.areas:
                found[kind][area].append(engine.goodness(area, percept.activity[area][:, :, 0]))
    return {k: {area: torch.cat(parts, dim=1) for area, parts in areas.items()} for k, areas in found.items()}


class Experiment:
    """Figure 5: every regime learns from the same strings, and is measured on them and on strings held out.

    subjects  their numbers; all of the protocol's unless given
    fetching  draw a bar while a missing text is fetched
    """

    variables = VARIABLES

    def __init__(
        self,
        protocol: Protocol,
        net: nx.MultiDiGraph,
        device: str = "cpu",
        subjects: Sequence[int] | None = None,
        fetching: bool = False,
    ) -> None:
        check_fit(protocol, net)
        self.protocol, self.net, self.device, self.stage = protocol, net, device, protocol.course
        self.subjects = list(range(protocol.subjects) if subjects is None else subjects)
        strings = text.load(protocol.text.strings, fetching)
        self.training, self.test = (torch.from_numpy(part).to(device) for part in _parts(strings, protocol.text))
        self.blocks = most_blocks(protocol, net)

    def engine(self, variant: str) -> RateEngine:
        settings = self.protocol.variant(variant)
        dynamics = RateDynamics(steps=0, precision=settings.engine.precision, device=self.device)
        return RateEngine(net_of(settings, self.net), dynamics)

    @property
    def size(self) -> str:
        """What an update takes in, in words."""
        count, length = self.training.shape
        return f"{count * (length - CONTEXT)} predictions"

    def rehearsal(self) -> tuple[Experiment, float]:
        """The same with a few strings, and how many times fewer they are: to be timed."""
        few = copy.copy(self)
        few.training, few.test = (
            strings[: self.protocol.text.strings_at_once] for strings in (self.training, self.test)
        )
        return few, len(self.training) / len(few.training)

    def begin(self, engine: RateEngine) -> Cohort:
        softmax = readout.start_softmax(engine, len(self.subjects), SYMBOLS, engine.areas)
        state = engine.start(self.protocol.seed, self.subjects)
        return Cohort.newborn(self.subjects, state, softmax)

    def update(self, engine: RateEngine, cohort: Cohort, variant: str, condition: str, factor: float) -> None:
        settings = self.protocol.variant(variant)
        self._reader(engine, cohort).learn(self.training, settings.conditions[condition], settings, factor)

    def measure(self, engine: RateEngine, cohort: Cohort) -> dict[str, np.ndarray]:
        reader, row = self._reader(engine, cohort), {}
        for part in PARTS:
            row[f"perplexity_{part}"], row[f"accuracy_{part}"] = prediction(reader, getattr(self, part))
        shape, ages = (len(self.test), self.test.shape[1] - CONTEXT), [0] * len(self.subjects)  # the same every time
        uniform = uniforms(self.protocol.seed, cohort, "probed predictions", shape, ages).to(self.device)
        called_real, evidence = {}, {}
        for kind, goodness in goodness_of_kinds(reader, self.test, uniform).items():
            p_positive = [engine.p_positive(area, good) for area, good in goodness.items()]
            p_bar = torch.cat(p_positive, dim=-1).mean(-1)
            share = (p_bar > 0.5).double().mean(-1)
            called_real[kind] = share.masked_fill(~p_bar.isfinite().all(-1), math.nan)  # of a diverged network
            row[f"goodness_{kind}"] = self._by_area([good.mean(1) for good in goodness.values()])
            log_odds = [engine.log_odds(area, good) for area, good in goodness.items()]
            row[f"log_odds_{kind}"] = self._by_area([odds.mean(1) for odds in log_odds])
            evidence[kind] = torch.cat(log_odds, dim=-1).sum(-1).cpu().numpy()
            row[f"p_{kind}"] = self._by_area([chance.mean(1) for chance in p_positive])
        row["miss"] = 1.0 - called_real["pos"].cpu().numpy()
        for kind in UNREAL:
            row[f"fp_{kind}"] = called_real[kind].cpu().numpy()
            row[f"dprime_{kind}"] = dprime(evidence["pos"], evidence[kind])
        return row

    def words(self, row: Mapping[str, np.ndarray]) -> str:
        training, test = (row[f"perplexity_{part}"].mean() for part in PARTS)
        accuracy = 100 * row["accuracy_test"].mean()
        return f"perplexity {test:.2f} held out, {training:.2f} training  accuracy {accuracy:.1f} %"

    def _reader(self, engine: RateEngine, cohort: Cohort) -> Reader:
        return Reader(engine, cohort, self.protocol.text.strings_at_once)

    def _by_area(self, values: Sequence[Tensor]) -> np.ndarray:
        """(subjects, blocks) of each area as (subjects, areas, blocks), filled up with NaN."""
        found = np.full((len(self.subjects), len(values), self.blocks), np.nan, dtype=np.float32)
        for place, value in enumerate(values):
            found[:, place, : value.shape[-1]] = value.cpu().numpy()
        return found


def _parts(strings: text.Strings, asked: Text) -> tuple[np.ndarray, np.ndarray]:
    """Strings to learn from, and strings held out; raises CortexffError where they are fewer than asked for."""
    for key, wanted, there in (
        ("training", asked.training, strings.training),
        ("held_out", asked.held_out, strings.test),
        ("validation", asked.validation + 1, strings.training[: asked.training]),
    ):
        if wanted is not None and wanted > len(there):
            found = getattr(asked, key)
            raise CortexffError(f"text.{key} is {found}, but {strings.name} has {len(there)} such strings: give less")
    training = strings.training[: asked.training]
    if asked.validation:
        return training[: -asked.validation], training[-asked.validation :]
    return training, strings.test[: asked.held_out]


def check_fit(protocol: Protocol, net: nx.MultiDiGraph) -> None:
    """Model and protocol go together; raises CortexffError before anything is written where not."""
    source, area = net.graph["source"], only_area(net, "input")
    if (units := net.nodes[area]["units"]) != CONTEXT * SYMBOLS:
        raise CortexffError(
            f"{source}: area {area} has {units} units, but a window is {CONTEXT} characters of {SYMBOLS} units each:"
            f" give it shape [{CONTEXT}, {SYMBOLS}]"
        )
    if has_context(net):
        raise CortexffError(f"{source}: has a context area, but next_character shows no label: take it out")
    check_steps(net, 0)
    for name in protocol.variants:
        plasticity = protocol.variant(name).plasticity
        for key in ("gradient", "baseline", "optimizer"):
            if (found := getattr(plasticity, key)) != type(plasticity).model_fields[key].default:
                raise CortexffError(f"plasticity.{key} {found}: next_character knows no such thing; leave it out")
        check_sleeping(plasticity, "plasticity", hidden_areas(net))
    for metric in protocol.table.metrics:
        if metric not in VARIABLES:
            raise CortexffError(f"table.metrics: unknown metric '{metric}' (known: {', '.join(VARIABLES)})")


# ------------------------------------------------------------ what is reported


def report(results: Path, protocol: Protocol, name: str, preset: str) -> list[table.Row]:
    """The closing table; a difference of perplexity says whether it is small beside what learning gained.

    The paper calls ``separated`` and ``rolled_out`` "almost identical". Here two regimes are *alike* where the whole
    95 % interval of their difference lies within ``table.alike`` of what the regime compared with gained, in the mean,
    over fixed random weights. *Different* is an interval that does not reach 0. Both can hold, or neither.
    """
    rows = table.build(results, protocol, name, preset)
    settings = protocol.table
    found = {(row.variant, row.metric, row.condition): row for row in rows}
    fixed = next((name for name, regime in protocol.conditions.items() if regime.phases == ["rest"]), None)
    judged = []
    for row in rows:
        gain = found.get((row.variant, row.metric, f"{fixed} − {settings.against}"))
        about = row.metric.startswith("perplexity") and "−" in row.condition
        if about and gain is not None and row is not gain:
            row = replace(row, verdict=f"{row.verdict}; {verdict(row, gain.ours, settings.alike)}")
        judged.append(row)
    return judged


def verdict(difference: table.Row, gain: float, alike: float) -> str:
    """What a difference of perplexity says, beside the gain of learning hidden weights: a few words of found facts."""
    if not gain > 0:
        return "alike or not cannot be said: fixed weights did no worse"
    if not math.isfinite(difference.low):
        return "alike or not cannot be said: no interval"
    share = f"{difference.ours / gain:+.0%} [{difference.low / gain:+.0%}, {difference.high / gain:+.0%}]"
    within = max(abs(difference.low), abs(difference.high)) <= alike * gain
    differs = difference.low > 0 or difference.high < 0
    words = {
        (True, True): "alike though different",
        (True, False): "alike",
        (False, True): "different",
        (False, False): "undecided",
    }[within, differs]
    return f"{words}: {share} of what learning gains over fixed weights, where up to {alike:.0%} is alike"
