"""Labels as context, and the negative data made from them (§3.3, §3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def one_hot(labels: Tensor, count: int) -> Tensor:
    """One-of-N labels, (...) → (..., count), float32."""
    return torch.nn.functional.one_hot(labels, count).float()


def neutral(count: int) -> Tensor:
    """A label that says nothing: equal entries that add up to 1, ten of 0.1 for ten classes (§3.3); (count,)."""
    return torch.full((count,), 1.0 / count)


def candidates(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Every label, as versions of one case: (1, 1, count, count)."""
    return torch.eye(count, device=device).view(1, 1, count, count)


def hard_negatives(
    probability: Tensor, labels: Tensor, streams: Sequence[np.random.Generator], first: int = 0
) -> Tensor:
    """Wrong labels drawn in proportion to the network's belief in them; never the true one (§3.4).

    probability  (subjects, cases, classes), the one-pass softmax
    labels       (subjects, cases), true labels
    streams      one random stream a subject
    first        place of the first case in its minibatch; a draw belongs to a place
    returns      (subjects, cases)
    """
    weight = probability.double().cpu().scatter(-1, labels.cpu().unsqueeze(-1), 0.0)
    # A network without doubt leaves nothing to choose from: then all wrong labels are alike.
    hopeless = weight.sum(-1, keepdim=True) <= 1e-30
    even = torch.ones_like(weight).scatter(-1, labels.cpu().unsqueeze(-1), 0.0)
    cumulative = torch.where(hopeless, even, weight).cumsum(-1)
    draws = [stream.random(first + labels.shape[1])[first:] for stream in streams]
    drawn = torch.from_numpy(np.stack(draws)).unsqueeze(-1)
    # The first label whose cumulative weight exceeds the draw has weight of its own, so it is never the true one.
    chosen = (cumulative <= drawn * cumulative[..., -1:]).sum(-1)
    return chosen.to(labels.device)


def random_negatives(labels: Tensor, classes: int, streams: Sequence[np.random.Generator], first: int = 0) -> Tensor:
    """Wrong labels drawn evenly, never the true one; shapes as in :func:`hard_negatives`."""
    drawn = np.stack([stream.integers(1, classes, first + labels.shape[1])[first:] for stream in streams])
    return (labels + torch.from_numpy(drawn).to(labels.device)) % classes
