"""How images and labels reach a net: the label as context, in the image's first pixels, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from cortexff.engines.state import Activity
from cortexff.graph import only_area
from cortexff.protocol.settings import Stimuli
from cortexff.stimuli import pixels
from cortexff.stimuli.images import Images, centre, hold_out, load
from cortexff.stimuli.labels import neutral, one_hot


def images_of(stimuli: Stimuli, progress: bool = False) -> Images:
    """The images that a protocol asks for, split and centred as it says; errors and ``progress`` as in ``load``."""
    images = hold_out(load(stimuli.images, progress), stimuli.validation)
    return centre(images) if stimuli.centred else images


@dataclass(frozen=True)
class Presentation:
    """What areas are clamped to.

    labels   ``context``, ``pixels`` or ``none``, as the protocol's ``stimuli.labels``
    retina   input area
    context  area that is clamped to the label, None where the label does not come that way
    shape    of an image
    classes  number of labels
    blurs    of the masks of hybrid images
    """

    labels: str
    retina: str
    context: str | None
    shape: tuple[int, ...]
    classes: int
    blurs: int

    @classmethod
    def of(cls, stimuli: Stimuli, net: nx.MultiDiGraph, images: Images) -> Presentation:
        context = only_area(net, "context") if stimuli.labels == "context" else None
        retina = only_area(net, "input")
        return cls(stimuli.labels, retina, context, images.shape, images.classes, stimuli.blurs)

    def plain(self, images: Tensor) -> Activity:
        """Images without a label, or with a neutral one: (subjects or 1, cases, pixels) → input area → one version."""
        if self.labels == "pixels":
            return {self.retina: pixels.labelled(images, neutral(self.classes).to(images.device).view(1, 1, 1, -1))}
        return {self.retina: images.unsqueeze(2)}

    def labelled(self, images: Tensor, labels: Tensor) -> tuple[Activity, Activity]:
        """Images with a label each, or several: what input and context areas are clamped to.

        images  (subjects or 1, cases, pixels)
        labels  (subjects or 1, cases or 1, versions), numbers
        """
        shown = one_hot(labels, self.classes)
        if self.context is not None:
            return self.plain(images), {self.context: shown}
        return {self.retina: pixels.labelled(images, shown)}, {}

    def real(self, images: Tensor, labels: Tensor) -> tuple[Activity, Activity]:
        """Images as real data, one version each: with their labels (cases,), or without where none are shown."""
        if self.labels == "none":
            return self.plain(images), {}
        return self.labelled(images, labels[None, :, None])

    def every_label(self, images: Tensor) -> tuple[Activity, Activity]:
        """Images with each of the labels, as versions."""
        return self.labelled(images, torch.arange(self.classes, device=images.device).view(1, 1, -1))

    def side_by_side(self, *images: Tensor) -> tuple[Activity, Activity]:
        """Different images as versions of one case, without labels."""
        return {self.retina: torch.stack(torch.broadcast_tensors(*images), dim=2)}, {}

    def hybrids(self, images: Tensor, others: Tensor, streams: Sequence[np.random.Generator], first: int = 0) -> Tensor:
        """As :func:`pixels.hybrids`, of images of this shape."""
        return pixels.hybrids(images, others, self.shape, streams, self.blurs, first)
