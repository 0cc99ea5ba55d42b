r"""A baseline stored in sleep and learned from in wake (note 15 of the paper).

Asleep, a synapse learns nothing, but takes the mean of what negative data would have it learn; it changes by what its
average of the gradient still carries from wake, and by its weight cost. Awake, it learns that mean beside what real
data have it learn:

.. math:: g = g^+(w_t) + \frac1n \sum_{s \in \text{sleep}} g^-(w_s)

So every positive update has one negative to go with it, as in interleaved learning, but from an earlier time.
``fresh``: of the last sleep. ``stale``: of the first sleep alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cortexff.engines.gradients import AreaGradient
from cortexff.protocol.cohort import Cohort

_GRADIENT, _COUNTS = "baseline/", "baseline updates"


def turn(cohort: Cohort, kind: str, awake: bool) -> None:
    """Count an update that is about to be made, so that :func:`learn_with` knows which sleep it belongs to."""
    # (subjects, 2): negative updates in the mean, and whether it has been used since
    counts = cohort.kept.setdefault(_COUNTS, torch.zeros(len(cohort.subjects), 2, dtype=torch.int64))
    if awake:
        counts[:, 1] = counts[:, 0] > 0
        return
    over = counts[:, 1] == 1  # an earlier sleep's
    if kind == "fresh":
        counts[over] = 0
    counts[counts[:, 1] == 0, 0] += 1


def learn_with(cohort: Cohort, area: str, gradient: AreaGradient, awake: bool) -> None:
    """Change, in place, what an area learns: awake, add the baseline to it; asleep, take it into the baseline."""
    counts = cohort.kept[_COUNTS]
    taken = (counts[:, 1] == 0).float() / counts[:, 0].clamp(min=1)  # weight of this update in the mean
    for name, array in {**gradient.weights, f"bias of {area}": gradient.bias}.items():
        mean = cohort.kept.setdefault(_GRADIENT + name, torch.zeros_like(array))
        if awake:
            array.add_(mean)
        else:
            mean.lerp_(array, _like(taken, array))
            array.zero_()


def _like(of_subjects: Tensor, array: Tensor) -> Tensor:
    return of_subjects.to(array.device).view(-1, *[1] * (array.ndim - 1))
