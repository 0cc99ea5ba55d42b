"""How many multiplications the algorithm needs, whatever way an engine goes about it.

Counted are the products of weights with activity, and of derivatives with activity, one for each synapse that exists
and each activity that is not known to be the same as another: a clamped area is heard once a settle, an image once for
all the versions it is shown in, and so is a hidden area until something has reached it that differs between versions.
What is done once for a unit or a weight (rectifying, normalizing, decay) is not counted. All counts are for one subject
whose areas are updated together.
"""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx

from cortexff.graph import afferents, hidden_areas
from cortexff.receptive_fields import fields_along


def synapses(net: nx.MultiDiGraph, source: str, target: str, name: str) -> int:
    """Weights that a projection really has: its receptive fields, cut off at the edge of the map."""
    places = [net.nodes[area] for area in (source, target)]
    field = net.edges[source, target, name]["receptive_field"]
    if field is None:
        return places[0]["units"] * places[1]["units"]
    ours, theirs = places[1]["shape"], places[0]["shape"]
    count = 1
    for axis in (0, 1):
        count *= int(fields_along(theirs[axis], ours[axis], field.size[axis], field.stride[axis]).sum())
    channels = [place["units"] // (place["shape"][0] * place["shape"][1]) for place in places]
    return count * channels[0] * channels[1]


def _synapses_from(net: nx.MultiDiGraph, role: str, *kinds: str) -> int:
    return sum(n for found, n in _projections(net, *kinds) if found == role)


def _projections(net: nx.MultiDiGraph, *kinds: str) -> Iterator[tuple[str, int]]:
    """Role of the source, and number of synapses, of every projection."""
    for area in hidden_areas(net):
        for source, name in afferents(net, area, *kinds):
            yield net.nodes[source]["role"], synapses(net, source, area, name)


def synapses_from(net: nx.MultiDiGraph, area: str) -> int:
    """Weights of all projections that leave an area."""
    return sum(synapses(net, area, target, name) for _, target, name in net.out_edges(area, keys=True))


def all_synapses(net: nx.MultiDiGraph) -> int:
    """Weights of the whole net."""
    return sum(count for _, count in _projections(net))


def look(net: nx.MultiDiGraph, cases: int) -> int:
    """Multiplications of the single bottom-up pass (§3.4)."""
    return cases * (_synapses_from(net, "input") + _synapses_from(net, "hidden", "bottom_up"))


def settle(net: nx.MultiDiGraph, cases: int, versions: int, steps: int, contexts: int | None = None) -> int:
    """Multiplications of a settle, after the bottom-up pass.

    contexts  different contexts to be heard, where not every version of every case has its own
    """
    heard = _heard_while_settling(net, cases, versions, steps)
    known = cases * _synapses_from(net, "hidden", "bottom_up")  # what the first step hears is that of the pass
    return heard - known + (contexts or cases * versions) * _synapses_from(net, "context")


def training(net: nx.MultiDiGraph, cases: int, versions: int, steps: int) -> int:
    """Multiplications of one update: the bottom-up pass, a settle, and the gradient of every weight (eq. 3).

    Without steps, every version has an input of its own (§3.3).
    """
    if not steps:
        return 2 * look(net, cases * versions)
    gradient = _heard_while_settling(net, cases, versions, steps)
    gradient += cases * versions * _synapses_from(net, "context")
    gradient += cases * _synapses_from(net, "input")  # a derivative summed over versions meets their image once
    return look(net, cases) + settle(net, cases, versions, steps) + gradient


def _heard_while_settling(net: nx.MultiDiGraph, cases: int, versions: int, steps: int) -> int:
    """Synapses between hidden areas, each times the different activities that it hears in a settle."""
    contexts = {area for area, role in net.nodes(data="role") if role == "context"}
    # Versions differ first where a context is heard, at step 1, and with every step one projection further.
    reached = nx.multi_source_dijkstra_path_length(net, contexts, weight=None) if contexts else {}
    total = 0
    for area in hidden_areas(net):
        for source, name in afferents(net, area):
            if net.nodes[source]["role"] == "hidden":
                alike = min(reached.get(source, steps), steps)
                total += synapses(net, source, area, name) * cases * (alike + versions * (steps - alike))
    return total


def testing(net: nx.MultiDiGraph, cases: int, labels: int, steps: int) -> int:
    """Multiplications of the label by goodness: every image settles with every label (§3.4).

    steps  the last that is read; without any, every label lies in the input (§3.3)
    """
    if not steps:
        return look(net, cases * labels)
    return look(net, cases) + settle(net, cases, labels, steps, contexts=labels)
