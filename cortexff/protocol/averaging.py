"""Weights averaged over the last whole cycle of wake and sleep: what a slow copy of the synapses would be like.

Where the phases take turns, weights swing between them. Their mean over a cycle tells what was learned apart from that.
"""

from __future__ import annotations

import dataclasses

import torch

from cortexff.engines.state import RateState
from cortexff.log import Variable
from cortexff.protocol.cohort import Cohort

MEASURED = ("err_goodness", "fp_neg", "dprime")
_DIMENSIONS, _FORMULA = ("probe", "subject"), "of weights averaged over the updates of the last whole cycle; else as "
VARIABLES = {
    f"averaged_{name}": Variable(_DIMENSIONS, "1", f"{words}, averaged weights", _FORMULA + name)
    for name, words in zip(
        MEASURED,
        ("error of the label of highest goodness", "false-positive rate on wrong labels", "d′ of real data"),
        strict=True,
    )
}
_SUM, _MEAN = "cycle sum/", "cycle mean/"


def take_in(cohort: Cohort, number: int, length: int | None) -> None:
    """Take the weights into the mean of their cycle, after an update.

    number  of the update in its stage, from 0
    length  updates of a cycle; None where phases take no turns: then weights are their own mean
    """
    kept = cohort.kept
    if number == 0:
        for name in [name for name in kept if name.startswith((_SUM, _MEAN))]:
            del kept[name]
    if length is None:
        return
    for name, array in _averaged(cohort.state).items():
        if number == 0:
            kept[_SUM + name] = torch.zeros_like(array)
            kept[_MEAN + name] = torch.full_like(array, torch.nan)  # until a whole cycle is over
        total = kept[_SUM + name]
        total += array
        if (number + 1) % length == 0:
            kept[_MEAN + name].copy_(total).div_(length)
            total.zero_()


def averaged_state(cohort: Cohort) -> RateState:
    """The cohort's state with the mean weights and biases of the last whole cycle; NaN before there was one.

    Where phases take no turns it is the state itself.
    """
    found = {name.removeprefix(_MEAN): array for name, array in cohort.kept.items() if name.startswith(_MEAN)}
    if not found:
        return cohort.state
    mean = RateState.from_arrays(found)
    return dataclasses.replace(cohort.state, weights=mean.weights, biases=mean.biases)


def _averaged(state: RateState) -> dict[str, torch.Tensor]:
    return {name: array for name, array in state.arrays().items() if name.startswith(("weights/", "biases/"))}
