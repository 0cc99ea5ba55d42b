r"""Adam in place of the running average of the gradient, with moments of its own for each phase.

Its steps hardly shrink as a net gets its inputs right, which is what protects a net that only ever sees real data
(note 15); so it is no part of the paper, but of a study of sleep deprivation (Lica & Dinucu-Jianu 2023). There, and
here, positive updates, negative ones and those from both at once have separate optimizers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cortexff.engines.gradients import AreaGradient
from cortexff.equations.plasticity import adam_direction
from cortexff.protocol.cohort import Cohort

_UPDATES = "adam updates"


def turn(cohort: Cohort, is_positive: Sequence[bool]) -> None:
    """Count an update that is about to be made."""
    counts = cohort.kept.setdefault(f"{_UPDATES} {_whose(is_positive)}", torch.zeros(len(cohort.subjects)))
    counts += 1


def replace(cohort: Cohort, is_positive: Sequence[bool], area: str, gradient: AreaGradient, inputs: int) -> None:
    r"""Put Adam's direction, in place, where the gradient of an area was.

    A learning rate ε then is the step of a weight that hears input of length 1, as in nets whose input is normalized
    to that. Here N inputs have mean square 1 and the rate is ε/N (``plasticity.unit_input_rate``): the same step of the
    drive needs a direction √N times as large, and N times for a bias, which hears 1.

    inputs  N, source units heard by a unit of the area
    """
    whose = _whose(is_positive)
    updates = cohort.kept[f"{_UPDATES} {whose}"]
    named = {**gradient.weights, f"bias of {area}": gradient.bias}
    for name, array in named.items():
        moments = [
            cohort.kept.setdefault(f"adam {whose}/{moment}/{name}", torch.zeros_like(array))
            for moment in ("mean", "square")
        ]
        count = updates.to(array.device).view(-1, *[1] * (array.ndim - 1))
        scale = math.sqrt(inputs) if name in gradient.weights else inputs
        array.copy_(adam_direction(array, *moments, count)).mul_(scale)


def _whose(is_positive: Sequence[bool]) -> str:
    """The optimizer: of positive updates, of negative ones, or of both at once."""
    return "both" if len(set(is_positive)) > 1 else "positive" if is_positive[0] else "negative"
