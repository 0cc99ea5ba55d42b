"""Local plasticity: the closed form of eq. 3, with no derivative from any other area or moment."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ADAM_MEAN, ADAM_SQUARE, ADAM_LEAST = 0.9, 0.999, 1e-8  # as everywhere
PART = 2**18  # numbers in a sum of two precisions: the array that its conversion makes stays in the cache


def residual(log_odds: Tensor, is_positive: Tensor) -> Tensor:
    r"""How wrong a block is about its input: the slope of its log probability by its log odds.

    .. math:: \frac{\partial \log p}{\partial \text{log odds}} = 1 - p \ \text{(positive)}, \qquad
              \frac{\partial \log (1 - p)}{\partial \text{log odds}} = -p \ \text{(negative)}

    Once a block classifies an input correctly this vanishes, and so does its learning (note 15).

    log_odds     any shape
    is_positive  1 for real data, 0 for negative data; broadcasts against ``log_odds``
    """
    return is_positive - torch.sigmoid(log_odds)


def hinge_residual(log_odds: Tensor, is_positive: Tensor) -> Tensor:
    """The same where a block learns at full rate from what is on the wrong side of θ, and from nothing else."""
    return is_positive - (log_odds > 0).to(log_odds.dtype)


def linear_residual(log_odds: Tensor, is_positive: Tensor) -> Tensor:
    """The slope of the log odds themselves, without the logarithm of a logistic: learning never stops (note 15)."""
    return (2.0 * is_positive - 1.0).expand(torch.broadcast_shapes(log_odds.shape, is_positive.shape))


RESIDUALS = {"log_sigmoid": residual, "hinge": hinge_residual, "linear": linear_residual}


def drive_derivative(activity: Tensor, active: Tensor, residual: Tensor, gain: float, out: Tensor) -> Tensor:
    r"""Half the derivative of a block's log probability by the drive of its units: the unit's part of eq. 3.

    .. math:: \tfrac12 \frac{\partial \log p}{\partial d_j}
              = \frac{\partial \log p}{\partial G}\, y_j \, (1 - \text{damping})\, [d_j > 0]

    The factor 2 of eq. 3 is left out, as in the author's code; the activity kept from the step before is a given.

    activity  y, (..., blocks, units of a block)
    active    same shape: 1 where the drive is above zero, 0 where it is not, for there a unit does not learn
    residual  (..., blocks), from :func:`residual`
    gain      (1 - damping) · sign · slope / κ: what the drive adds to activity times what activity adds to log odds
    out       receives the result
    """
    return torch.mul(activity, residual.mul(gain).unsqueeze(-1), out=out).mul_(active)


def weight_gradient(
    derivative: Tensor, heard: Tensor, out: Tensor | None = None, more: bool = False, product: Tensor | None = None
) -> Tensor:
    r"""Eq. 3 summed over cases: :math:`\sum_n \delta_{nj} x_{ni}`.

    derivative  δ by the drive, (subjects, cases, target units)
    heard       x, (subjects, cases, source units): normalized activity of the step before
    out         receives the sum, (subjects, target units, source units); made where it is not given
    more        add to what ``out`` holds
    product     shaped like ``out``, to multiply in where δ and x have another precision
    """
    if out is None:
        return torch.bmm(derivative.mT, heard)
    if product is None:
        return torch.baddbmm(out, derivative.mT, heard, beta=float(more), out=out)
    torch.bmm(derivative.mT, heard, out=product)
    for part, of_product in zip(out.view(-1).split(PART), product.view(-1).split(PART), strict=True):
        part.add_(of_product) if more else part.copy_(of_product)
    return out


def unit_input_rate(learning_rate: float, inputs: float) -> float:
    r"""Learning rate for weights that hear mean square 1, given the paper's for input of length 1 (§6).

    An area that hears N numbers of mean square 1 hears a vector of squared length N. Rescaling it to length 1 and its
    weights by √N leaves every drive as it was and turns a rate ε into ε / N. So ε means the same in areas of any
    size: the share by which a unit's response to an input grows when it alone is learned from (eq. 4).

    learning_rate  ε of eq. 3
    inputs         N, source units heard by a unit of the area, all projections together
    """
    return learning_rate / inputs


def one_shot_rate(wanted_goodness: float, goodness: float) -> float:
    r"""The ε that reaches a wanted goodness in one update, for input of length 1 (eq. 4): :math:`\sqrt{S^*/S} - 1`."""
    return math.sqrt(wanted_goodness / goodness) - 1.0


def apply_gradient(
    weights: Tensor,
    average: Tensor,
    gradient: Tensor,
    learning_rate: float,
    gradient_average: float,
    weight_cost: float,
) -> None:
    r"""One update in place: smooth the gradient, decay the weights, move them.

    .. math:: \bar g \leftarrow a\,\bar g + (1-a)\, g, \qquad w \leftarrow w + \varepsilon(\bar g - c\, w)

    weights, average, gradient  same shape
    gradient_average            a, share of the old average that is kept
    weight_cost                 c
    """
    average.lerp_(gradient, 1.0 - gradient_average)
    weights.mul_(1.0 - learning_rate * weight_cost).add_(average, alpha=learning_rate)


def adam_direction(gradient: Tensor, mean: Tensor, square: Tensor, updates: Tensor) -> Tensor:
    r"""Adam's step for a learning rate of 1 (Kingma & Ba 2015); its two moments are changed in place.

    .. math:: m \leftarrow 0.9\,m + 0.1\,g, \qquad v \leftarrow 0.999\,v + 0.001\,g^2, \qquad
              \frac{m / (1 - 0.9^n)}{\sqrt{v / (1 - 0.999^n)} + 10^{-8}}

    gradient, mean, square  g, m and v, same shape
    updates                 n, this one included; broadcasts against them
    """
    mean.lerp_(gradient, 1.0 - ADAM_MEAN)
    square.lerp_(gradient.square(), 1.0 - ADAM_SQUARE)
    return mean / (1.0 - ADAM_MEAN**updates) / ((square / (1.0 - ADAM_SQUARE**updates)).sqrt() + ADAM_LEAST)
