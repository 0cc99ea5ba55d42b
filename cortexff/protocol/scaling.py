"""Synaptic scaling: what sleep might do in place of the negative phase (Tononi & Cirelli 2014).

All weights and biases of an area are multiplied by one factor, so that its goodness on real data is what it was at
another time of the subject's life. What other areas hear of it, the direction of its activity, stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cortexff.engines.rate import RateEngine
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.presentation import Presentation
from cortexff.readout import goodness_trace, window

IMAGES = 100  # the first training images: goodness on them is what is brought back


def scale(
    engine: RateEngine,
    cohort: Cohort,
    like: Cohort,
    presentation: Presentation,
    images: Tensor,
    labels: Tensor,
    steps: tuple[int, int],
    updates: int,
) -> None:
    r"""Take the next of so many equal steps towards the goodness of another time; the cohort is changed in place.

    .. math:: w \leftarrow \alpha w, \qquad \alpha = (G_0 / G)^{1 / 2n}

    Goodness grows with the square of the weights, so n such steps arrive.

    like     the same subjects at that time
    images   (cases, pixels)
    labels   (cases,)
    steps    first and last step over which goodness is averaged
    updates  n, this one included
    """
    both = (like.of(cohort.subjects), cohort)
    then, now = (_goodness(engine, one, presentation, images, labels, steps) for one in both)
    for area in engine.areas:
        factor = (then[area] / now[area]).pow(0.5 / updates)
        factor = torch.where(torch.isfinite(factor) & (factor > 0), factor, torch.ones_like(factor))
        for _, name in engine.sources[area]:
            weights = cohort.state.weights[name]
            weights.mul_(factor.view(-1, *[1] * (weights.dim() - 1)))
        cohort.state.biases[area].mul_(factor[:, None])


def _goodness(
    engine: RateEngine, cohort: Cohort, present: Presentation, images: Tensor, labels: Tensor, steps: tuple[int, int]
) -> dict[str, Tensor]:
    """Area → mean goodness of all its blocks on real data, (subjects,)."""
    clamped, context = present.real(images[None, :IMAGES].to(engine.device), labels[:IMAGES].to(engine.device))
    percept = engine.look(cohort.state, clamped)
    trace = goodness_trace(engine, cohort.state, percept, context, engine.areas, steps=steps[1])
    return {area: window(of_area, steps).sum(-1).mean((1, 2)) for area, of_area in trace.items()}
