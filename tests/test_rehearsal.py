"""The engine at work on random images, and the watch that times it."""

import time

import pytest
import torch

from cortexff.engines.rate import RateEngine
from cortexff.engines.rehearsal import Rehearsal, Stopwatch
from cortexff.graph import load_model


def rehearsed(cases: int) -> Rehearsal:
    engine = RateEngine(load_model("digits_recurrent"))
    return Rehearsal(engine, engine.start(0, range(2)), cases)


@pytest.mark.parametrize("phase", [(True, False), (True,), (False,)])
def test_every_phase_changes_the_weights(phase):
    rehearsal = rehearsed(3)
    before = {name: weights.clone() for name, weights in rehearsal.state.weights.items()}
    rehearsal.update(phase)
    assert not any(torch.equal(weights, before[name]) for name, weights in rehearsal.state.weights.items())
    assert rehearsal.test((3, 5)).shape == (2, 3)


def test_the_second_label_is_a_wrong_one():
    labels = rehearsed(50).pairs
    right, wrong = labels.argmax(-1).unbind(2)
    assert (labels.sum(-1) == 1).all() and (right != wrong).all()


def test_short_work_is_repeated_however_long_its_first_run_took():
    pauses = iter([0.2])
    watch = Stopwatch(lambda: time.sleep(next(pauses, 0.001)), "cpu")
    assert watch.times > 10
