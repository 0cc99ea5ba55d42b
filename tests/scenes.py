"""Small networks, with everything they need for an update, for the tests of the engine."""

import json
import math
from dataclasses import dataclass, replace
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Plasticity, RateDynamics, RateState
from cortexff.graph import parse_model

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
BARE = Plasticity(learning_rate=1.0, gradient_average=0.0, weight_cost=0.0, peer_normalization=0.0)
PHASES = [(True, False), (True,), (False,), (False, True, True)]


def model(areas: dict, projections: list[dict]) -> nx.MultiDiGraph:
    return parse_model(json.dumps({"format": "cortexff-model/1", "areas": areas, "projections": projections}))


def project(source: str, target: str, kind: str = "bottom_up", **more) -> dict:
    return {"from": source, "to": target, "kind": kind, **more}


FIGURE_3 = (
    {
        "retina": {"role": "input", "units": 12},
        "V1": {"units": 10},
        "V2": {"units": 8},
        "label": {"role": "context", "units": 3},
    },
    [
        project("retina", "V1"),
        project("V1", "V2"),
        project("V2", "V1", "top_down"),
        project("label", "V2", "top_down"),
    ],
)


@dataclass
class Scene:
    """A network with everything it needs for one update."""

    engine: RateEngine
    state: RateState
    images: dict[str, Tensor]
    context: dict[str, Tensor]
    is_positive: tuple[bool, ...]
    borrowed: tuple[bool, ...] = ()

    def settled(self) -> list[tuple[int, int, dict[str, Tensor]]]:
        """(step, group, activity) of every moment, copied."""
        percept = self.engine.look(self.state, self.images)
        moments = self.engine.settle(self.state, percept, self.context)
        return [(m.step, m.group, {area: y.clone() for area, y in m.activity.items()}) for m in moments]

    def learn(self, plasticity: Plasticity) -> None:
        percept = self.engine.look(self.state, self.images)
        more = {"borrowed": self.borrowed}
        self.engine.learn(self.state, percept, self.context, self.images, self.is_positive, plasticity, **more)


def scene(
    net: nx.MultiDiGraph,
    is_positive: tuple[bool, ...] = (True, False),
    seed: int = 0,
    images_differ: bool = False,
    **dynamics,
) -> Scene:
    """Two subjects and three cases of random images and contexts; biases and averages are those of no newborn.

    images_differ  an image for each version, as where the label lies in the pixels
    """
    engine, random = RateEngine(net, RateDynamics(**dynamics)), np.random.default_rng(seed)
    subjects, cases = 2, 3
    state = engine.start(seed, range(subjects))
    for part in (state.biases, state.weight_averages, state.bias_averages):
        for name, array in part.items():
            part[name] = array + 0.3 * tensor_like(random, array)
    for name, projection in engine.projections.items():
        if projection.mask is not None:
            state.weight_averages[name] *= projection.mask
    for area, array in state.mean_activity.items():
        state.mean_activity[area] = tensor_like(random, array).abs()
    images, context = {}, {}
    for area, data in net.nodes(data=True):
        versions = len(is_positive) if images_differ else 1
        shape = (1 if seed % 3 == 0 else subjects, cases, versions, data["units"])
        if data["role"] == "input":
            images[area] = tensor_like(random, torch.empty(shape, device=engine.device))
        elif data["role"] == "context":
            shape = (1 if seed % 3 else subjects, 1 if seed % 4 == 0 else cases, len(is_positive), data["units"])
            context[area] = tensor_like(random, torch.empty(shape, device=engine.device))
    return Scene(engine, state, images, context, is_positive)


def tensor_like(random: np.random.Generator, array: Tensor) -> Tensor:
    return torch.from_numpy(random.standard_normal(array.shape, dtype=np.float32)).to(array.device)


def bottom_up(net: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """What is left of a net when areas hear nothing but inputs and what is below them."""
    inputs = {area for area, role in net.nodes(data="role") if role == "input"}
    above = [
        (s, t, name)
        for s, t, name, kind in net.edges(keys=True, data="kind")
        if kind != "bottom_up" and s not in inputs
    ]
    net = net.copy()
    net.remove_edges_from(above)
    net.remove_nodes_from([area for area, role in net.nodes(data="role") if role == "context"])
    return net


def full(engine: RateEngine, state: RateState) -> RateState:
    """The same state with every projection as a full matrix, (subjects, target units, source units)."""
    weights, averages = (
        {name: engine.projections[name].matrix(array) for name, array in part.items()}
        for part in (state.weights, state.weight_averages)
    )
    return replace(state, weights=weights, weight_averages=averages)


def equal(left: RateState, right: RateState) -> bool:
    theirs = right.arrays()
    return list(left.arrays()) == list(theirs) and all(torch.equal(a, theirs[k]) for k, a in left.arrays().items())


def assert_close(left: RateState, right: RateState, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    assert set(left.arrays()) == set(right.arrays())
    for path, array in left.arrays().items():
        torch.testing.assert_close(array, right.arrays()[path], rtol=rtol, atol=atol, msg=lambda m, p=path: f"{p}: {m}")


def random_net(number: int) -> nx.MultiDiGraph:
    """A graph that holds a little of everything; the number decides what."""
    random = np.random.default_rng(number)
    hidden = [f"h{place}" for place in range(1 + number % 4)]
    inputs, contexts = ["retina", "ear"][: 1 + number % 2], ["label", "task"][: (number + 1) % 3]
    areas = {}
    for area in inputs + hidden + contexts:
        areas[area] = {"shape": random.integers(2, 4, size=3).tolist()}
    for area in inputs:
        areas[area]["role"] = "input"
    for area in contexts:
        areas[area] = {"role": "context", "units": int(random.integers(2, 6))}
    for area in hidden:
        units = math.prod(areas[area]["shape"])
        areas[area]["goodness"] = {
            "measure": ["sum_of_squares", "mean_square"][random.integers(2)],
            "sign": ["max", "min"][random.integers(2)],
            "temperature": float(random.uniform(0.5, 4)),
            "blocks": int(random.choice([b for b in (1, 2, 3, 4) if units % b == 0])),
            **({"threshold": float(random.uniform(0.1, 9))} if random.random() < 0.5 else {}),
        }
    projections = [project(source, hidden[0]) for source in inputs]
    projections += [project(low, high) for low, high in pairwise(hidden)]
    projections += [project("retina", area, name=f"skip {area}") for area in hidden if random.random() < 0.4]
    projections += [project(hidden[0], area, name=f"far {area}") for area in hidden[2:] if random.random() < 0.6]
    for place, area in enumerate(hidden):
        projections += [project(c, area, "top_down") for c in contexts if area == hidden[-1] or random.random() < 0.4]
        projections += [project(high, area, "top_down") for high in hidden[place + 1 :] if random.random() < 0.7]
        if random.random() < 0.4:
            projections.append(project(area, area, "lateral"))
        if place and random.random() < 0.4:
            projections.append(project(area, hidden[0], "lateral", name=f"side {area}"))
            projections.append(project(area, hidden[0], "top_down", name=f"second {area}"))
    for projection in projections:
        if "shape" in areas[projection["from"]] and random.random() < 0.5:
            projection["receptive_field"] = {"size": random.integers(2, 4, size=2).tolist()}
    order = random.permutation(len(projections))
    return model(areas, [projections[place] for place in order])


def brute_mask(net: nx.MultiDiGraph, source: str, target: str, name: str) -> Tensor:
    """The receptive field of every unit, counted out location by location."""
    units = [net.nodes[area]["units"] for area in (target, source)]
    if (field := net.edges[source, target, name]["receptive_field"]) is None:
        return torch.ones(units, dtype=torch.float64)
    mask = torch.zeros(units, dtype=torch.float64)
    ours, theirs = net.nodes[target]["shape"], net.nodes[source]["shape"]
    for unit, at in enumerate(np.ndindex(*ours)):
        for other, there in enumerate(np.ndindex(*theirs)):
            inside = True
            for axis in (0, 1):
                size, stride = field.size[axis], field.stride[axis]
                start = math.floor(at[axis] * stride - ((ours[axis] - 1) * stride + size - theirs[axis]) / 2)
                inside &= start <= there[axis] < start + size
            mask[unit, other] = inside
    return mask


LATE_START = (  # the first area of the file and of the bottom-up order hears nothing but its context
    {
        "goal": {"units": 6},
        "retina": {"role": "input", "units": 5},
        "V1": {"units": 7},
        "task": {"role": "context", "units": 4},
    },
    [project("task", "goal", "top_down"), project("retina", "V1"), project("goal", "V1", "top_down")],
)
