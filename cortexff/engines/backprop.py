"""The baseline: the same areas trained by backpropagation of a softmax's cross-entropy (§3.1). Here autograd learns.

An area hears the activity of others as it is, without length normalization. What a model says of top-down projections,
goodness and a context area is not used. Local receptive fields are full matrices whose other weights stay zero (note
13). Arrays are those of ``state.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from cortexff.engines import ranks
from cortexff.engines.projections import AllToAll
from cortexff.engines.rate import product_type
from cortexff.engines.state import Activity, Percept, Plasticity, RateState
from cortexff.equations.plasticity import apply_gradient
from cortexff.graph import afferents, hidden_areas
from cortexff.receptive_fields import connection_mask

if TYPE_CHECKING:
    from cortexff.readout import SoftmaxState


@dataclass(frozen=True)
class Regularizers:
    """What keeps a net from learning its images by heart (§3.1).

    dropout          share of the hidden units that each image does without in an update
    input_dropout    share of the pixels
    label_smoothing  share of the wanted probability that is spread evenly over all labels
    """

    dropout: float = 0.0
    input_dropout: float = 0.0
    label_smoothing: float = 0.0


class BackpropEngine:
    """``start`` makes weights, ``look`` brings activity, ``learn`` changes the weights, a softmax's among them.

    precision  of the products, ``float32``, ``bfloat16`` or ``auto``; weights, sums and updates are float32
    device     ``cpu`` or ``cuda``
    """

    def __init__(
        self,
        net: nx.MultiDiGraph,
        regularizers: Regularizers | None = None,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.net, self.device = net, torch.device(device)
        self.product_type = product_type(net, precision, device)
        self.areas = hidden_areas(net)
        self.units = dict(net.nodes(data="units"))
        self.sources = {area: afferents(net, area, "bottom_up") for area in self.areas}
        self.projections: dict[str, AllToAll] = {}
        for area, (source, name) in ((area, pair) for area, pairs in self.sources.items() for pair in pairs):
            mask, field = None, net.edges[source, area, name]["receptive_field"]
            if field is not None:
                shapes = [net.nodes[place]["shape"] for place in (source, area)]
                mask = torch.from_numpy(connection_mask(*shapes, field)).float().to(self.device)
            self.projections[name] = AllToAll(source, self.units[source], self.units[area], mask)
        regularizers = regularizers or Regularizers()
        self.label_smoothing = regularizers.label_smoothing
        inputs = [area for area, role in net.nodes(data="role") if role == "input"]
        shares = {
            **dict.fromkeys(inputs, regularizers.input_dropout),
            **dict.fromkeys(self.areas, regularizers.dropout),
        }
        self.dropout = {area: share for area, share in shares.items() if share}  # areas that lose units in an update

    def start(self, seed: int, subjects: Sequence[int]) -> RateState:
        """Weights of newborn subjects: a drive of variance 2, half of which is lost by rectification (He et al. 2015).

        The numbers drawn are those of ``RateEngine.start``.
        """
        state = RateState()
        for area in self.areas:
            for _, name in self.sources[area]:
                shares = len(self.sources[area]) / 2
                state.weights[name] = self.projections[name].newborn(name, seed, subjects, shares, self.device)
                state.weight_averages[name] = torch.zeros_like(state.weights[name])
            state.biases[area] = torch.zeros(len(subjects), self.units[area], device=self.device)
            state.bias_averages[area] = torch.zeros_like(state.biases[area])
        return state

    @torch.no_grad()
    def look(self, state: RateState, images: Mapping[str, Tensor]) -> Percept:
        """What images evoke in every area, nothing dropped.

        images  input area → (subjects or 1, cases, versions, units)
        """
        return Percept({}, {}, self._activity(state.weights, state.biases, images))

    def _activity(
        self,
        weights: Mapping[str, Tensor],
        biases: Mapping[str, Tensor],
        images: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
    ) -> Activity:
        """The bottom-up pass: area → (subjects, cases, versions, units).

        masks  area → (subjects, cases, units), factors on its activity, from :func:`dropout_mask`
        """
        cases = next(iter(images.values())).shape[1:3]
        left = {area: mask.mT for area, mask in (masks or {}).items()}
        # Cases are columns here: so the gradient of weights lies in memory as the weights do.
        heard = {area: image.float().flatten(1, 2).mT for area, image in images.items()}
        heard = {area: column * left[area] if area in left else column for area, column in heard.items()}
        for area in self.areas:
            drive = biases[area].unsqueeze(2).expand(-1, -1, cases.numel())
            for source, name in self.sources[area]:
                product = torch.matmul(weights[name].to(self.product_type), heard[source].to(self.product_type))
                drive = drive + product.float()
            activity = torch.relu(drive)
            heard[area] = activity * left[area] if area in left else activity
        return {area: heard[area].mT.unflatten(1, cases) for area in self.areas}

    def learn(
        self,
        state: RateState,
        softmax: SoftmaxState,
        images: Mapping[str, Tensor],
        labels: Tensor,
        masks: Mapping[str, Tensor],
        plasticity: Plasticity,
        minibatch: int | None = None,
    ) -> None:
        """One step down the gradient of the cross-entropy, backwards through all areas; everything changes in place.

        The learning rate is that of gradient descent, as areas of any size take it: nothing here has a known length.

        images     input area → (subjects or 1, cases, 1, units)
        labels     (subjects, cases), true labels
        masks      for each area in ``dropout``, from :func:`dropout_mask`
        minibatch  cases of all ranks together, if there are others
        """
        weights, biases = (
            {name: array.detach().requires_grad_() for name, array in part.items()}
            for part in (state.weights, state.biases)
        )
        reading = softmax.weights.detach().requires_grad_()
        with torch.enable_grad():
            last = self._activity(weights, biases, images, masks)[self.areas[-1]].squeeze(2)
            loss = cross_entropy(torch.bmm(last, reading.mT), labels, self.label_smoothing).sum()
            objective = -loss / (minibatch or labels.shape[1])  # of one subject; the sum has the gradients of all
        leaves = [*weights.values(), *biases.values(), reading]
        # An area that does not lead to the last one has no gradient, and learns nothing.
        gradients = torch.autograd.grad(objective, leaves, materialize_grads=True)
        gradients = [gradient.contiguous() for gradient in gradients]  # the softmax's is not, and NCCL wants it
        ranks.add_up(gradients)()
        averages = [*state.weight_averages.values(), *state.bias_averages.values(), softmax.average]
        names = [*weights, *(None for _ in biases), None]
        for name, leaf, average, gradient in zip(names, leaves, averages, gradients, strict=True):
            if name is not None and (mask := self.projections[name].mask) is not None:
                gradient.mul_(mask)
            cost = plasticity.weight_cost if leaf.dim() == 3 else 0.0  # none on biases, as in the rate engine
            rate, keep = plasticity.learning_rate, plasticity.gradient_average
            apply_gradient(leaf.detach(), average, gradient, rate, keep, cost)


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""What a softmax's belief lacks of the wanted one, for each case (§3.1).

    .. math:: -\sum_k q_k \log p_k, \qquad q_k = (1 - s)\,[k = \text{label}] + s / K

    logits           log p up to a constant, (subjects, cases, labels)
    labels           (subjects, cases), numbers
    label_smoothing  s, share of the wanted probability that all K labels have alike
    returns          (subjects, cases)
    """
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return flat.view(labels.shape)


def dropout_mask(
    streams: Sequence[np.random.Generator], cases: int, units: int, share: float, first: int = 0
) -> Tensor:
    """Factors on activity (Srivastava et al. 2014): 0 for a share of the units, else 1 / (1 - share), (subjects, ...).

    streams  one random stream a subject
    first    place of the first case in its minibatch; a draw belongs to a place
    returns  (subjects, cases, units), of mean 1
    """
    drawn = [stream.random((first + cases, units), dtype=np.float32)[first:] for stream in streams]
    return torch.from_numpy(np.stack(drawn) >= share).float().div_(1.0 - share)
