"""One update of figure 3's net as it would plainly be written with PyTorch's autograd, in float32.

The benchmark times it beside the engine, and a test holds the two to each other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from cortexff.engines.state import Plasticity, RateDynamics


def normalized(activity: Tensor) -> Tensor:
    return activity * activity.square().mean(-1, keepdim=True).clamp(min=1e-20).rsqrt()


class AutogradNet(nn.Module):
    """An image, two hidden areas that hear each other, and a label above: all-to-all, θ = units, κ = 1."""

    def __init__(self, pixels: int, units: int, labels: int, dynamics: RateDynamics, plasticity: Plasticity) -> None:
        super().__init__()
        self.dynamics, self.plasticity, self.units = dynamics, plasticity, units
        self.image = nn.Linear(pixels, units)  # its bias is the first area's
        self.up = nn.Linear(units, units, bias=False)
        self.down = nn.Linear(units, units, bias=False)
        self.label = nn.Linear(labels, units)  # its bias is the second area's
        self.mean_activity = [torch.full((units,), 0.5, device=dynamics.device) for _ in range(2)]
        self.to(dynamics.device)
        self.averages = {parameter: torch.zeros_like(parameter) for parameter in self.parameters()}
        first, second = (plasticity.learning_rate / heard for heard in (pixels + units, units + labels))
        self.rates = {self.image: first, self.down: first, self.up: second, self.label: second}

    def update(self, images: Tensor, right: Tensor, wrong: Tensor) -> None:
        """Learn from images with their right labels (positive) and with wrong ones (negative), in one batch.

        images        (cases, pixels)
        right, wrong  (cases, labels), one-of-N
        """
        cases, steps, damping = len(images), self.dynamics.steps, self.dynamics.damping
        image, label = normalized(images.repeat(2, 1)), normalized(torch.cat([right, wrong]))
        with torch.no_grad():  # the bottom-up pass
            first = torch.relu(self.image(image))
            second = torch.relu(self.up(normalized(first)) + self.label.bias)
        activity = [first, second]
        sign = torch.ones(2 * cases, device=images.device)
        sign[cases:] = -1
        peers = [self.plasticity.peer_normalization * (mean.mean() - mean) for mean in self.mean_activity]
        seen = [torch.zeros_like(mean) for mean in self.mean_activity]

        loss = torch.zeros((), device=images.device)
        for _ in range(steps):
            heard = [normalized(y) for y in activity]
            drives = [self.image(image) + self.down(heard[1]), self.label(label) + self.up(heard[0])]
            for area, drive in enumerate(drives):
                fresh = damping * activity[area] + (1 - damping) * torch.relu(drive)
                log_odds = fresh.square().sum(-1) - self.units
                loss = loss + 0.5 * softplus(-sign * log_odds).sum() - (peers[area] * drive[:cases]).sum()
                activity[area] = fresh.detach()
                seen[area] += activity[area][:cases].mean(0) / steps
        self.zero_grad()
        (loss / (cases * steps)).backward()

        with torch.no_grad():
            for layer, rate in self.rates.items():
                for name, parameter in layer.named_parameters():
                    average = self.averages[parameter]
                    average.lerp_(parameter.grad, 1 - self.plasticity.gradient_average)
                    if name == "weight":
                        parameter.mul_(1 - rate * self.plasticity.weight_cost)
                    parameter.sub_(average, alpha=rate)
            for mean, now in zip(self.mean_activity, seen, strict=True):
                mean.lerp_(now, 1 - self.plasticity.activity_average)
