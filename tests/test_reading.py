"""A net that reads strings: its windows, its predictions and its negative data are what §4.1 says, window by window."""

import json

import numpy as np
import pytest
import torch

from cortexff import readout
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import RateDynamics
from cortexff.equations.plasticity import unit_input_rate
from cortexff.experiments.next_character import Protocol, Readout, Regime, SoftmaxByStrings
from cortexff.experiments.reading import Reader, sample, shown, windows
from cortexff.graph import parse_model
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.lesson import told_to_engine
from cortexff.random_streams import generator
from cortexff.stimuli import text
from cortexff.stimuli.text import CONTEXT

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
MODEL = {
    "format": "cortexff-model/1",
    "areas": {"text": {"role": "input", "shape": [10, 30]}, "A1": {"units": 12}, "A2": {"units": 8}},
    "projections": [{"from": "text", "to": "A1"}, {"from": "A1", "to": "A2"}],
}
NET = parse_model(json.dumps(MODEL))
STRINGS = torch.from_numpy(text.load("fables").training[:5, :16])  # five strings, six predictions each
FORCED = Regime(phases=["interleaved"], negatives="teacher_forced")
DREAMING = Regime(phases=["interleaved"], negatives="rolled_out")


def protocol_of(**plasticity) -> Protocol:
    return Protocol.model_validate(
        {
            "format": "cortexff-protocol/1",
            "experiment": "next_character",
            "title": "A few letters",
            "section": "4.1",
            "model": "letters",
            "plasticity": {"learning_rate": 3.0, "gradient_average": 0.0, **plasticity},
            "updates": 3,
            "conditions": {"a": {"phases": ["rest"]}},
            "variants": {"max": None},
            "table": {"conditions": ["a"], "metrics": {"perplexity_test": None}},
        }
    )


PROTOCOL = protocol_of()


def reader_of(subjects=(0, 1), at_once=2, practised=True) -> Reader:
    """A reader that has opinions: its softmax is random unless it is newborn."""
    engine = RateEngine(NET, RateDynamics(steps=0))
    softmax = readout.start_softmax(engine, len(subjects), 30, engine.areas)
    for weights, subject in zip(softmax.weights, subjects, strict=True):
        drawn = generator(7, subject, "opinions").standard_normal(weights.shape, dtype=np.float32)
        weights.copy_(torch.from_numpy(drawn) * practised)
    state = engine.start(0, subjects)
    return Reader(engine, Cohort.newborn(list(subjects), state, softmax), at_once)


def belief_after(reader: Reader, context: np.ndarray, subject: int) -> np.ndarray:
    """What one subject expects after ten symbols: a plain pass, one unit vector after another."""
    state, y, heard = reader.cohort.state, np.zeros(300), []
    y[np.arange(CONTEXT) * 30 + context] = 1
    for area, name in (("A1", "text→A1"), ("A2", "A1→A2")):
        x = y * np.sqrt(y.size) / np.linalg.norm(y)
        y = np.maximum(state.weights[name][subject].numpy() @ x + state.biases[area][subject].numpy(), 0)
        heard.append(y * np.sqrt(y.size) / np.linalg.norm(y))
    drive = reader.cohort.softmax.weights[subject].numpy() @ np.concatenate(heard)
    return np.exp(drive - drive.max()) / np.exp(drive - drive.max()).sum()


def naive_draw(chances: np.ndarray, uniform: float) -> int:
    total = 0.0
    for symbol, chance in enumerate(chances):
        total += chance
        if uniform < total:
            return symbol
    return len(chances) - 1


class Watch:
    """Keeps what an engine is given to learn from."""

    def __init__(self, reader: Reader, monkeypatch) -> None:
        self.seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        learn = reader.engine.learn_in_parts

        def learn_in_parts(state, parts, *rest):
            def watched():
                for part in parts:
                    (real,) = part.is_positive
                    images = part.images["text"].expand(2, -1, -1, -1)
                    self.seen[real].append(images.squeeze(2).unflatten(-1, (CONTEXT, 30)).argmax(-1))
                    yield part

            learn(state, watched(), *rest)

        monkeypatch.setattr(reader.engine, "learn_in_parts", learn_in_parts)

    def windows(self, real: bool) -> np.ndarray:
        """(subjects, strings, positions, 10)."""
        return torch.cat(self.seen[real], dim=1).unflatten(1, (len(STRINGS), -1)).numpy()


def test_a_string_has_a_window_for_each_predicted_character():
    ends = windows(STRINGS[None])[:, :, 1:]
    assert ends.shape == (1, 5, 6, 10)
    for string in range(5):
        for position in range(6):
            last = CONTEXT + position
            np.testing.assert_array_equal(ends[0, string, position], STRINGS[string, last - 9 : last + 1])
    units = shown(ends)[0, :, 0].unflatten(1, (10, 30))
    assert (units.sum(-1) == 1).all() and torch.equal(units.argmax(-1), ends[0].flatten(0, 1).long())


def test_symbols_are_drawn_as_often_as_they_are_believed_in():
    chances = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    drawn = sample(chances.expand(10_000, -1), (torch.arange(10_000) + 0.5) / 10_000)
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / 10_000, chances, atol=2e-4)
    assert sample(chances, torch.tensor(0.0)) == 1 and sample(torch.tensor([0.5, 0.49]), torch.tensor(0.999)) == 1


def test_teacher_forced_negatives_are_those_of_a_naive_loop(monkeypatch):
    reader = reader_of()
    uniform = np.stack([generator(0, s, "predictions", 0).random((5, 6), dtype=np.float32) for s in (0, 1)])
    expected = np.empty((2, 5, 6, 10), dtype=int)
    for subject, string, position in np.ndindex(2, 5, 6):
        last = CONTEXT + position
        symbols = STRINGS[string].numpy()
        drawn = naive_draw(belief_after(reader, symbols[last - 10 : last], subject), uniform[subject, string, position])
        expected[subject, string, position] = [*symbols[last - 9 : last], drawn]
    watch = Watch(reader, monkeypatch)
    reader.learn(STRINGS, FORCED, PROTOCOL)
    np.testing.assert_array_equal(watch.windows(real=False), expected)
    real = watch.windows(real=True)
    np.testing.assert_array_equal(real, windows(STRINGS[None])[:, :, 1:].expand(2, -1, -1, -1))
    np.testing.assert_array_equal(real[..., :-1], expected[..., :-1])  # §4.1: the first nine are identical
    assert (real[..., -1] != expected[..., -1]).mean() > 0.5


def test_rolled_out_negatives_are_those_of_a_naive_loop(monkeypatch):
    reader = reader_of()
    uniform = np.stack([generator(0, s, "predictions", 0).random((5, 6), dtype=np.float32) for s in (0, 1)])
    expected = np.empty((2, 5, 6, 10), dtype=int)
    for subject, string in np.ndindex(2, 5):
        dream = STRINGS[string, :CONTEXT].tolist()
        for position in range(6):
            chances = belief_after(reader, np.array(dream[-10:]), subject)
            dream.append(naive_draw(chances, uniform[subject, string, position]))
            expected[subject, string, position] = dream[-10:]
    watch = Watch(reader, monkeypatch)
    reader.learn(STRINGS, DREAMING, PROTOCOL)
    np.testing.assert_array_equal(watch.windows(real=False), expected)
    np.testing.assert_array_equal(watch.windows(real=True)[0], windows(STRINGS)[:, 1:])


def arrays(reader: Reader) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in reader.cohort.arrays().items()}


@pytest.mark.parametrize("regime", [FORCED, DREAMING])
def test_strings_seen_a_few_at_once_teach_what_all_at_once_do(regime):
    few, all_at_once = reader_of(at_once=2), reader_of(at_once=5)
    for reader in (few, all_at_once):
        reader.learn(STRINGS, regime, PROTOCOL)
    theirs = arrays(all_at_once)
    for name, array in arrays(few).items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_interleaved_learning_is_that_of_the_engine_on_pairs():
    """Positive and negative windows side by side, as every other protocol learns, give the same weights."""
    reader, plain = reader_of(), reader_of()
    uniform = torch.from_numpy(np.stack([generator(0, s, "predictions").random((5, 6), dtype="f4") for s in (0, 1)]))
    dreams = plain.roll_out(STRINGS[:, :CONTEXT], uniform)
    pairs = torch.cat([shown(windows(s)[:, :, 1:]).expand(2, -1, -1, -1) for s in (STRINGS[None], dreams)], dim=2)
    state, images = plain.cohort.state, {"text": pairs}
    plasticity = told_to_engine(PROTOCOL.plasticity)
    plain.engine.learn(state, plain.engine.look(state, images), {}, images, (True, False), plasticity)
    reader.learn(STRINGS, DREAMING, PROTOCOL)
    for name, array in state.arrays().items():
        torch.testing.assert_close(reader.cohort.state.arrays()[name], array, msg=name)


def test_the_softmax_learns_by_the_delta_rule_from_real_strings():
    reader = reader_of()
    before = reader.cohort.softmax.weights.clone()
    _, heard = reader.read(STRINGS)
    wrong = torch.eye(30)[STRINGS[:, CONTEXT:].flatten().long()] - readout.belief(reader.cohort.softmax, heard)
    gradient = wrong.mT @ heard / 30
    reader.learn(STRINGS, Regime(phases=["rest"]), PROTOCOL)
    settings = PROTOCOL.readout.softmax
    rate = unit_input_rate(settings.learning_rate, 20)
    step = rate * ((1 - settings.gradient_average) * gradient - settings.weight_cost * before)
    torch.testing.assert_close(reader.cohort.softmax.weights, before + step)


def test_fixed_weights_stay_and_every_other_regime_moves_them():
    newborn = reader_of().cohort.state.arrays()
    for phases in (["rest"], ["interleaved"], ["wake"], ["wake", "sleep"]):
        reader = reader_of()
        reader.learn(STRINGS, Regime(phases=phases), PROTOCOL)
        after = reader.cohort.state.arrays()
        moved = [not torch.equal(after[name], array) for name, array in newborn.items() if name.startswith("weights/")]
        assert all(moved) if phases != ["rest"] else not any(moved)


@pytest.mark.parametrize("phases", [["interleaved"], ["wake"]])
def test_a_rate_that_has_decayed_to_half_moves_weights_half_as_far(phases):
    """Those of the areas and of the softmax, where nothing but the gradient moves them."""
    settings = protocol_of(weight_cost=0.0, peer_normalization=0.0)
    settings = settings.model_copy(update={"readout": Readout(softmax=SoftmaxByStrings(weight_cost=0.0))})
    newborn, steps = arrays(reader_of()), {}
    for factor in (1.0, 0.5):
        reader = reader_of()
        reader.learn(STRINGS, Regime(phases=phases), settings, factor)
        after, moving = arrays(reader), ("state/weights/", "state/biases/", "softmax/weights")
        steps[factor] = {name: after[name] - array for name, array in newborn.items() if name.startswith(moving)}
    assert len(steps[1.0]) == 5 and all(step.any() for step in steps[1.0].values())
    for name, step in steps[1.0].items():
        np.testing.assert_allclose(steps[0.5][name], 0.5 * step, rtol=1e-3, atol=1e-6, err_msg=name)


def test_apart_the_wake_comes_first_and_the_sleep_dreams_with_what_it_left():
    apart, by_hand = reader_of(), reader_of()
    apart.learn(STRINGS, Regime(phases=["wake", "sleep"]), protocol_of(weight_cost=0.01))
    for phase in ("wake", "sleep"):
        by_hand.learn(STRINGS, Regime(phases=[phase]), protocol_of(weight_cost=0.005))  # an update costs weights once
        by_hand.cohort.age -= 1
    for name, array in by_hand.cohort.state.arrays().items():
        torch.testing.assert_close(apart.cohort.state.arrays()[name], array, msg=name)
    assert torch.equal(apart.cohort.softmax.weights, by_hand.cohort.softmax.weights)


def test_apart_nothing_of_the_sleep_is_in_the_averages_of_the_wake():
    """Where wake and sleep are apart, the wake's running average is that of positive gradients alone."""
    settings = protocol_of(gradient_average=0.9, weight_cost=0.0, peer_normalization=0.0)
    waking, apart = reader_of(), reader_of()
    waking.learn(STRINGS, Regime(phases=["wake"]), settings)
    apart.learn(STRINGS, Regime(phases=["wake", "sleep"]), settings)
    for name, average in waking.cohort.state.weight_averages.items():
        assert torch.equal(apart.cohort.state.weight_averages[name], average)
        assert apart.cohort.state.weight_averages[f"sleep/{name}"].abs().sum() > 0


@pytest.mark.parametrize("regime", [FORCED, DREAMING, Regime(phases=["wake", "sleep"])])
def test_a_subject_alone_is_the_subject_in_a_cohort(regime):
    many, alone = reader_of((0, 1, 2)), reader_of((2,))
    for reader in (many, alone):
        for _ in range(3):
            reader.learn(STRINGS, regime, PROTOCOL)
    theirs = many.cohort.select([2]).arrays()
    for name, array in arrays(alone).items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-4, atol=1e-6, err_msg=name)
