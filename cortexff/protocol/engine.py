"""The engine that a protocol asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import networkx as nx

from cortexff.engines.backprop import BackpropEngine, Regularizers
from cortexff.engines.neurons import Neurons
from cortexff.engines.rate import RateEngine, best_precision
from cortexff.engines.spiking import SpikingEngine, backend_for
from cortexff.engines.state import RateDynamics
from cortexff.graph import hidden_areas, with_goodness
from cortexff.protocol.schedule import Common, Protocol
from cortexff.protocol.settings import Engine

RATE_SETTINGS = {"damping", "steps", "alternating", "precision"}
AnyEngine = RateEngine | BackpropEngine
AnyProtocol = TypeVar("AnyProtocol", bound=Common)


def engine_of(
    protocol: Protocol,
    net: nx.MultiDiGraph,
    device: str = "cpu",
    learning: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> AnyEngine:
    """The engine that a variant of a protocol asks for.

    learning  whether it is to learn, which is fastest in PyTorch where units spike
    tell      hears in a line what takes long
    """
    if protocol.learns_by_backprop:
        regularizers = Regularizers(**protocol.backprop.model_dump())
        return BackpropEngine(net, regularizers, protocol.engine.precision, device)
    net, settings = net_of(protocol, net), protocol.engine
    dynamics = RateDynamics(**settings.model_dump(include=RATE_SETTINGS), device=device)
    if settings.kind == "rate":
        return RateEngine(net, dynamics)
    backend = backend_for(settings.spiking.backend, learning, device)
    return SpikingEngine(net, dynamics, neurons_of(settings), backend, tell)


def neurons_of(engine: Engine) -> Neurons:
    """Constants of the spiking units that settings ask for."""
    return Neurons(**engine.spiking.model_dump(exclude={"backend"}))


def with_precision(protocol: AnyProtocol, net: nx.MultiDiGraph, device: str, here: bool = True) -> AnyProtocol:
    """The protocol with the precision that ``auto`` stands for, so that its settings say what was done.

    here  whether the run will be on this machine; where it is not, nothing is known but that float32 works
    """
    if protocol.engine.precision != "auto":
        return protocol
    precision = best_precision(net, device) if here else "float32"
    engine = protocol.engine.model_copy(update={"precision": precision})
    return protocol.model_copy(update={"engine": engine})


def most_blocks(protocol: Common, net: nx.MultiDiGraph) -> int:
    """The largest number of goodness blocks of an area, over all variants."""
    variants = [net_of(protocol.variant(name), net) for name in protocol.variants]
    return max(changed.nodes[area]["goodness"].blocks for changed in variants for area in hidden_areas(net))


def net_of(protocol: Common, net: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """The model with the goodness that a variant of a protocol asks for."""
    return with_goodness(net, **protocol.goodness.model_dump(exclude_none=True))
