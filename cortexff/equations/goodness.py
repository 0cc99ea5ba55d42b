r"""Goodness: one number per block and input, compared with a threshold.

Convention of this package: the goodness of a block of N units is the *sum* of its squared activities (§2), its
threshold is θ = N and its temperature κ = 1 unless the model says otherwise, and what other areas hear has mean square
1 (``normalization.py``). A model may ask for the *mean* square instead; its default threshold is 1, and with κ = 1 its
log odds are N times smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def sum_of_squares(activity: Tensor) -> Tensor:
    r"""The paper's goodness (§2), :math:`\sum_j y_j^2`.

    activity  (..., units) before normalization
    returns   (...), in units of squared activity
    """
    return torch.linalg.vector_norm(activity, dim=-1).square()


def mean_square(activity: Tensor) -> Tensor:
    r"""Goodness per unit, :math:`\frac1N \sum_j y_j^2`; shapes as in :func:`sum_of_squares`."""
    return sum_of_squares(activity) / activity.shape[-1]


@dataclass(frozen=True)
class Measure:
    """A way to measure goodness, and its slope.

    of     goodness of (..., units) activity
    slope  with N units, half the derivative of goodness by a unit's activity is ``slope(N)`` times that activity
    """

    of: Callable[[Tensor], Tensor]
    slope: Callable[[int], float]


MEASURES = {
    "sum_of_squares": Measure(sum_of_squares, lambda units: 1.0),
    "mean_square": Measure(mean_square, lambda units: 1.0 / units),
}
SIGNS = {"max": 1.0, "min": -1.0}  # min turns the objective around: low activity on real data (§3.5)


def log_odds(goodness: Tensor, goodness_threshold: float, temperature: float = 1.0, sign: float = 1.0) -> Tensor:
    r"""Log odds that a block is looking at real data: the argument of the logistic in eq. 1.

    .. math:: \text{sign}\cdot\Bigl(\sum_j y_j^2 - \theta\Bigr) / \kappa

    goodness            any shape, taken before normalization
    goodness_threshold  θ, in units of goodness
    temperature         κ, in units of goodness
    sign                +1 where real data should have high activity, -1 where low (§3.5)
    """
    return (goodness - goodness_threshold) * (sign / temperature)


def p_positive(goodness: Tensor, goodness_threshold: float, temperature: float = 1.0, sign: float = 1.0) -> Tensor:
    r"""Probability that a block is looking at real data (Hinton 2022, eq. 1): σ of :func:`log_odds`."""
    return torch.sigmoid(log_odds(goodness, goodness_threshold, temperature, sign))
