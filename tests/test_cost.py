"""The multiplications of the algorithm, against a literal enumeration of synapses, cases, versions and steps."""

import itertools

import networkx as nx
import pytest

from cortexff.engines import cost
from cortexff.graph import load_model, parse_model
from cortexff.receptive_fields import connection_mask

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


def enumerated(net: nx.MultiDiGraph, versions: int, learns: bool, contexts_are_shared: bool) -> int:
    """Every product of the algorithm, one after the other: for each, its synapses are added."""
    total = 0
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
                for _ in range(STEPS):
                    if role == "hidden":
                        total += each * (2 if learns else 1)
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
    """784-2000-2000-10, 100 images shown with a right and a wrong label, 8 steps."""
    image, between, label = 784 * 2000, 2000 * 2000, 10 * 2000
    look = 100 * (image + between)
    settle, gradient = 200 * (label + 8 * 2 * between), 200 * (label + 8 * 2 * between) + 100 * image
    assert cost.training(load_model("mnist_recurrent"), 100, 2, 8) == look + settle + gradient


@pytest.mark.parametrize("name, maps", [("cifar10_2", 2), ("cifar10_3", 3)])
def test_units_of_section_4_read_363_inputs_but_at_the_edge(name, maps):
    net = load_model(name)
    pairs = [edge for edge in net.edges(keys=True) if net.edges[edge]["receptive_field"]]
    assert len(pairs) == maps + maps - 1
    along = sum(1 for here, there in itertools.product(range(32), repeat=2) if abs(here - there) <= 5)
    assert {cost.synapses(net, *pair) for pair in pairs} == {along**2 * 9}
    assert along < 32 * 11
