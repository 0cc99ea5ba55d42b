"""Goodness: eq. 1, both signs, and what the choice of measure changes."""

import math

import pytest
import torch

from cortexff.equations.goodness import MEASURES, SIGNS, log_odds, mean_square, p_positive, sum_of_squares

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


def some_activity(device: str = "cpu", dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Rectified activity of two subjects, three cases and five units."""
    return torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).relu().to(device, dtype)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_goodness_by_hand(device):
    activity = torch.tensor([[3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 2.0]], device=device)
    assert sum_of_squares(activity).tolist() == pytest.approx([25, 4])
    assert mean_square(activity).tolist() == pytest.approx([6.25, 1])
    assert activity[0].tolist() == [3, 0, 4, 0]  # the activity itself is left as it was


def test_one_goodness_for_each_block():
    activity = some_activity().unflatten(-1, (5, 1)).expand(-1, -1, -1, 4)
    assert sum_of_squares(activity).shape == (2, 3, 5)
    torch.testing.assert_close(mean_square(activity), activity[..., 0].square())


def test_equation_1():
    goodness, theta = torch.tensor([0.0, 1.5, 2.0, 7.0]), 2.0
    wanted = [1 / (1 + math.exp(-(g - theta))) for g in goodness.tolist()]
    assert p_positive(goodness, theta).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("sign", SIGNS.values())
@pytest.mark.parametrize("temperature", [0.1, 1.0, 8.0])
def test_the_threshold_is_where_p_is_one_half(sign, temperature):
    assert p_positive(torch.tensor(3.25), 3.25, temperature, sign).item() == 0.5


def test_min_turns_the_objective_around():
    """§3.5: low activity on real data is the same question asked of the opposite sign."""
    goodness = sum_of_squares(some_activity())
    high, low = (p_positive(goodness, 2.0, 0.7, SIGNS[sign]) for sign in ("max", "min"))
    torch.testing.assert_close(high + low, torch.ones_like(high))
    assert (SIGNS["max"], SIGNS["min"]) == (1, -1)


@pytest.mark.parametrize("sign", SIGNS.values())
def test_measures_agree_once_threshold_and_temperature_are_scaled(sign):
    """A mean square with θ/N and κ/N says exactly what a sum of squares says with θ and κ."""
    activity, theta, kappa = some_activity(), 4.0, 1.3
    units = activity.shape[-1]
    torch.testing.assert_close(
        log_odds(mean_square(activity), theta / units, kappa / units, sign),
        log_odds(sum_of_squares(activity), theta, kappa, sign),
    )


@pytest.mark.parametrize("name", MEASURES)
def test_slope_is_half_the_derivative(name):
    """Central differences are exact for squares."""
    measure, activity = MEASURES[name], some_activity(dtype=torch.float64)
    for unit in range(activity.shape[-1]):
        nudge = torch.zeros(activity.shape[-1], dtype=torch.float64)
        nudge[unit] = 0.5
        derivative = measure.of(activity + nudge) - measure.of(activity - nudge)
        torch.testing.assert_close(derivative / 2, measure.slope(activity.shape[-1]) * activity[..., unit])
