"""What areas would learn besides if error derivatives travelled: a control, and what Forward-Forward does without (§1).

Each area keeps its goodness, and is told as well how the areas above it would like it to change. Autograd carries that
down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cortexff.engines import ranks
from cortexff.engines.gradients import AreaGradient
from cortexff.engines.state import Plasticity, RateState
from cortexff.equations.normalization import length_normalization

if TYPE_CHECKING:
    from cortexff.engines.rate import RateEngine


def derivatives_from_above(
    engine: RateEngine,
    state: RateState,
    images: Mapping[str, Tensor],
    is_positive: Sequence[bool],
    plasticity: Plasticity,
    minibatch: int,
) -> dict[str, AreaGradient]:
    """What each area's weights and biases do to the log probabilities of the areas above it.

    Added to the local gradient (eq. 3) it makes that of all areas' log probabilities together, backwards through the
    length normalization between them; half of it, as eq. 3 is taken here.

    engine       of a net without steps: activity is that of the bottom-up pass
    images       input area → (subjects or 1, cases, 1 or versions, units)
    is_positive  for each version, whether it is real data
    plasticity   its ``rule`` alone counts
    minibatch    cases of all ranks together
    returns      area → what is to be added to its gradient; nothing is seen
    """
    weights, biases = (
        {name: array.detach().requires_grad_() for name, array in part.items()}
        for part in (state.weights, state.biases)
    )
    real = torch.tensor(is_positive, dtype=torch.float32, device=engine.device).view(-1, 1)
    objective = torch.zeros((), device=engine.device, requires_grad=True)  # also of a net with one area
    with torch.enable_grad():
        heard = {area: length_normalization(image.float()) for area, image in images.items()}
        for area in engine.areas:
            # Once with synapses that listen to derivatives, for the areas above, and once with the same as they are:
            # an area's own share is what eq. 3 says.
            drives = []
            for own in (False, True):
                drive = (biases[area].detach() if own else biases[area])[:, None, None]
                for source, name in ((source, name) for source, name in engine.sources[area] if source in heard):
                    matrix = engine.projections[name].matrix(weights[name].detach() if own else weights[name])
                    rows = heard[source].expand(len(matrix), -1, -1, -1)
                    brought = torch.bmm(rows.flatten(1, 2), matrix.mT)
                    drive = drive + brought.unflatten(1, rows.shape[1:3])
                drives.append(drive)
            told, seen = drives
            heard[area] = length_normalization(torch.relu(told))
            log_odds = engine.log_odds(area, engine.goodness(area, torch.relu(seen)))
            wrong = plasticity.residual(area, log_odds.detach(), real)
            objective = objective + (wrong * log_odds).sum()
    leaves = [*weights.values(), *biases.values()]
    found = torch.autograd.grad(objective / (2 * minibatch), leaves, materialize_grads=True)
    found = [gradient.contiguous() for gradient in found]
    ranks.add_up(found)()
    of_weights = dict(zip(weights, found[: len(weights)], strict=True))
    of_biases = dict(zip(biases, found[len(weights) :], strict=True))
    for name, gradient in of_weights.items():
        if (mask := engine.projections[name].mask) is not None:
            gradient *= mask
    return {
        area: AreaGradient({name: of_weights[name] for _, name in engine.sources[area]}, bias, torch.zeros_like(bias))
        for area, bias in of_biases.items()
    }
