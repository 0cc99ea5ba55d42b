"""What an area passes on (length normalization) and what keeps its units alike (peer normalization)."""

from __future__ import annotations

import torch
from torch import Tensor

SILENT = 1e-20  # below this mean square an area is silent, and silence is passed on as zeros


def length_normalization(activity: Tensor, out: Tensor | None = None) -> Tensor:
    r"""Activity as other areas hear it: only its orientation is left (§2.1, note 5).

    .. math:: \hat y = \sqrt N\, y / \lVert y \rVert

    The length is √N rather than 1, so that a unit hears numbers of order 1 from areas of any size; the factor √N is
    absorbed by the learning rate (``plasticity.unit_input_rate``).

    activity  (..., units)
    out       receives the result, where given
    """
    mean_square = torch.linalg.vector_norm(activity, dim=-1, keepdim=True).square() / activity.shape[-1]
    return torch.mul(activity, mean_square.clamp(min=SILENT).rsqrt(), out=out)


def peer_derivative(mean_activity: Tensor, strength: float) -> Tensor:
    r"""Derivative that pulls a unit's mean activity towards the mean of its area (note 9).

    .. math:: \lambda\, (\bar m - m_j)

    It is added to the derivative by the drive of every real case, silent units included ("we pretend that there is
    [one] so that dead units have their incoming weights increased").

    mean_activity  m, (..., units): running mean over real cases
    strength       λ, in units of 1/activity
    """
    return strength * (mean_activity.mean(-1, keepdim=True) - mean_activity)
