"""The multiplications of the algorithm, against a literal enumeration of synapses, cases, versions and steps."""

import itertools

import networkx as nx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cortexff.engines import cost
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Plasticity, RateDynamics
from cortexff.graph import load_model, parse_model
from cortexff.readout import by_goodness
from cortexff.receptive_fields import connection_mask
from cortexff.stimuli.labels import candidates

TINY = """
format: cortexff-model/1
areas:
  retina: {role: input, shape: [5, 4]}
  ear: {role: input, units: 3}
  V1: {shape: [3, 3, 2]}
  V2: {shape: [2, 2, 3]}
  V3: {units: 4}
  label: {role: context, units: 2}
projections:
  - {from: retina, to: V1, receptive_field: {size: 3}}
  - {from: ear, to: V2}
  - {from: V1, to: V2, receptive_field: {size: [2, 3], stride: 1}}
  - {from: V1, to: V3}
  - {from: V2, to: V3}
  - {from: V2, to: V1, kind: top_down, receptive_field: {size: 2}}
  - {from: V1, to: V1, kind: lateral, receptive_field: {size: 1}}
  - {from: V3, to: V2, kind: top_down}
  - {from: label, to: V3, kind: top_down}
  - {from: label, to: V2, kind: top_down}
"""
CASES, STEPS = 3, 4


@pytest.fixture
def net() -> nx.MultiDiGraph:
    return parse_model(TINY)


def synapses(net: nx.MultiDiGraph, source: str, target: str, name: str) -> int:
    field, nodes = net.edges[source, target, name]["receptive_field"], net.nodes
    if field is None:
        return nodes[source]["units"] * nodes[target]["units"]
    return int(connection_mask(nodes[source]["shape"], nodes[target]["shape"], field).sum())


def heard_by_step(net: nx.MultiDiGraph, versions: int) -> list[dict[str, list[tuple]]]:
    """At each step, for each hidden area: of every version, everything that its activity is made of."""
    hidden = [area for area, role in net.nodes(data="role") if role == "hidden"]
    history = [{area: [("bottom-up",)] * versions for area in hidden}]
    for _ in range(STEPS - 1):
        now = {}
        for area in hidden:
            now[area] = []
            for version in range(versions):
                heard = [history[-1][area][version]]
                for source, _ in net.in_edges(area):
                    role = net.nodes[source]["role"]
                    if role == "hidden":
                        heard.append(history[-1][source][version])
                    elif role == "context":
                        heard.append((source, version))
                now[area].append(tuple(heard))
        history.append(now)
    return history


def enumerated(net: nx.MultiDiGraph, versions: int, learns: bool, contexts_are_shared: bool) -> int:
    """Every product of the algorithm, one after the other: for each, its synapses are added."""
    total, history = 0, heard_by_step(net, versions)
    for source, target, name, kind in net.edges(keys=True, data="kind"):
        role, each = net.nodes[source]["role"], synapses(net, source, target, name)
        for case in range(CASES):
            if role == "input" or (role == "hidden" and kind == "bottom_up"):
                total += each  # the bottom-up pass
            if role == "input" and learns:
                total += each  # summed over steps and versions, the derivative meets the image
            for _ in range(versions):
                if role == "context" and (case == 0 or not contexts_are_shared):
                    total += each
                if role == "context" and learns:
                    total += each
            if role == "hidden":
                for step, heard in enumerate(history):
                    different = len(set(heard[source]))
                    if step > 0 or kind != "bottom_up":  # else it is what the bottom-up pass heard
                        total += each * different
                    total += each * different * learns
    return total


@pytest.mark.parametrize("versions", [1, 2])
def test_training(net, versions):
    assert cost.training(net, CASES, versions, STEPS) == enumerated(net, versions, True, False)


def test_testing(net):
    assert cost.testing(net, CASES, 2, STEPS) == enumerated(net, 2, False, True)


def test_a_settle_is_what_testing_adds_to_the_look(net):
    settle = cost.settle(net, CASES, 2, STEPS, contexts=2)
    assert cost.look(net, CASES) + settle == cost.testing(net, CASES, 2, STEPS)


@pytest.mark.parametrize("name", ["cifar10_2", "cifar10_3", "visual_hierarchy", "digits_recurrent"])
def test_synapses_are_counted_without_the_mask(name):
    net = load_model(name)
    counted = [synapses(net, *edge) for edge in net.edges(keys=True)]
    assert [cost.synapses(net, *edge) for edge in net.edges(keys=True)] == counted
    assert cost.all_synapses(net) == sum(counted)


def test_the_paper_s_step_by_hand():
    """784-2000-2000-10, 100 images shown with a right and a wrong label, 8 steps.

    The label reaches the second area at step 1 and the first one at step 2: what is heard of the second is the same for
    both labels at step 1, and what is heard of the first at steps 1 and 2.
    """
    image, between, label = 784 * 2000, 2000 * 2000, 10 * 2000
    look = 100 * (image + between)
    up, down = 2 * 100 + 6 * 200, 1 * 100 + 7 * 200
    settle = 200 * label + (up - 100 + down) * between  # the first step up is that of the bottom-up pass
    gradient = 200 * label + (up + down) * between + 100 * image
    assert cost.training(load_model("mnist_recurrent"), 100, 2, 8) == look + settle + gradient


@pytest.mark.parametrize(
    "name, subjects", [("digits_recurrent", 1), ("digits_recurrent", 3), ("mnist_recurrent_1000", 1)]
)
def test_the_engine_multiplies_no_more(name, subjects):
    """Counted by PyTorch while it runs."""
    net = load_model(name)
    engine = RateEngine(net, RateDynamics(steps=5))
    state, random = engine.start(0, range(subjects)), torch.Generator().manual_seed(0)
    (image,), (label,) = ([area for area, r in net.nodes(data="role") if r == role] for role in ("input", "context"))
    images = {image: torch.rand(subjects, CASES, 1, net.nodes[image]["units"], generator=random)}
    labels = net.nodes[label]["units"]
    with FlopCounterMode(display=False) as training:
        two = {label: torch.eye(labels)[:2].expand(subjects, CASES, 2, labels)}
        engine.learn(state, engine.look(state, images), two, images, (True, False), Plasticity(1.0))
    assert training.get_total_flops() == 2 * subjects * cost.training(net, CASES, 2, 5)
    with FlopCounterMode(display=False) as testing:
        by_goodness(engine, state, engine.look(state, images), {label: candidates(labels)}, (3, 4))
    # The engine multiplies a candidate label anew for every case.
    again = subjects * (CASES - 1) * labels * cost._synapses_from(net, "context")
    assert testing.get_total_flops() == 2 * (subjects * cost.testing(net, CASES, labels, 4) + again)


@pytest.mark.parametrize("subjects", [1, 3])
def test_a_feedforward_net_multiplies_no_more(subjects):
    net = load_model("digits_feedforward")
    engine = RateEngine(net, RateDynamics(steps=0))
    state = engine.start(0, range(subjects))
    images = {"retina": torch.rand(subjects, CASES, 10, 64)}
    with FlopCounterMode(display=False) as training:
        two = {"retina": images["retina"][:, :, :2]}
        engine.learn(state, engine.look(state, two), {}, two, (True, False), Plasticity(1.0))
    assert training.get_total_flops() == 2 * subjects * cost.training(net, CASES, 2, 0)
    with FlopCounterMode(display=False) as testing:
        by_goodness(engine, state, engine.look(state, images), {}, (1, 1))
    assert testing.get_total_flops() == 2 * subjects * cost.testing(net, CASES, 10, 0)


@pytest.mark.parametrize("name, maps", [("cifar10_2", 2), ("cifar10_3", 3)])
def test_units_of_section_4_read_363_inputs_but_at_the_edge(name, maps):
    net = load_model(name)
    pairs = [edge for edge in net.edges(keys=True) if net.edges[edge]["receptive_field"]]
    assert len(pairs) == maps + maps - 1
    along = sum(1 for here, there in itertools.product(range(32), repeat=2) if abs(here - there) <= 5)
    assert {cost.synapses(net, *pair) for pair in pairs} == {along**2 * 9}
    assert along < 32 * 11
