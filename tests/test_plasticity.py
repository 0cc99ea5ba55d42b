"""Eq. 3 and eq. 4 in closed form, against autograd and against what the paper says of them."""

import pytest
import torch

from cortexff.equations.goodness import log_odds, sum_of_squares
from cortexff.equations.normalization import length_normalization
from cortexff.equations.plasticity import (
    apply_gradient,
    drive_derivative,
    one_shot_rate,
    residual,
    unit_input_rate,
    weight_gradient,
)

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
UNITS, INPUTS = 9, 30


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def random_area(random: torch.Generator, mean_square: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of an area, and an input of length 1 or of mean square 1."""
    weights = torch.randn(UNITS, INPUTS, generator=random, dtype=torch.float64)
    x = length_normalization(torch.randn(1, INPUTS, generator=random, dtype=torch.float64))
    return weights, x if mean_square else x / x.norm()


@pytest.mark.parametrize("positive", [1.0, 0.0])
def test_residual_is_the_slope_of_log_p(positive, random):
    odds = torch.randn(50, generator=random, requires_grad=True)
    torch.nn.functional.logsigmoid(odds if positive else -odds).sum().backward()
    torch.testing.assert_close(residual(odds.detach(), torch.tensor(positive)), odds.grad)


def test_an_input_classified_correctly_teaches_nothing():
    """Note 15."""
    odds = torch.tensor([200.0, -200.0])
    assert residual(odds, torch.tensor([1.0, 0.0])).tolist() == [0, 0]
    assert residual(odds, torch.tensor([0.0, 1.0])).tolist() == [-1, 1]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_drive_derivative_is_half_the_derivative_of_log_p(sign, device, random):
    damping, theta, kappa, shape = 0.3, 2.0, 1.7, (2, 5, 3, 4)  # three blocks of four units
    drive = torch.randn(shape, generator=random).to(device).requires_grad_()
    activity = damping * torch.rand(shape, generator=random).to(device) + (1 - damping) * torch.relu(drive)
    odds = log_odds(activity.square().sum(-1), theta, kappa, sign)
    (0.5 * torch.nn.functional.logsigmoid(odds).sum()).backward()
    place = torch.empty(shape, device=device)
    wrong = residual(odds.detach(), torch.tensor(1.0, device=device))
    found = drive_derivative(activity.detach(), (drive > 0).float(), wrong, (1 - damping) * sign / kappa, place)
    assert found is place
    torch.testing.assert_close(found, drive.grad)


def test_a_unit_below_zero_does_not_learn():
    """Damping keeps it active for a while, but its drive does not move it."""
    activity, responding = torch.ones(1, 1, 3), torch.tensor([[[2.0, 0.0, 0.5]]])
    found = drive_derivative(activity, responding.sign(), torch.ones(1, 1), 0.7, torch.empty(1, 1, 3))
    torch.testing.assert_close(found, torch.tensor([[[0.7, 0.0, 0.7]]]))


def test_weight_gradient_sums_over_cases_of_each_subject(random):
    derivative, heard = torch.randn(2, 7, 3, generator=random), torch.randn(2, 7, 4, generator=random)
    found = weight_gradient(derivative, heard)
    for subject in range(2):
        wanted = sum(torch.outer(derivative[subject, case], heard[subject, case]) for case in range(7))
        torch.testing.assert_close(found[subject], wanted)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("positive", [1.0, 0.0])
def test_an_update_does_not_move_the_normalized_output(sign, positive, random):
    """§6, eq. 3: all activities change by the same proportion, so the orientation stays."""
    weights, x = random_area(random, mean_square=True)
    y = torch.relu(x @ weights.T)
    wrong = residual(log_odds(sum_of_squares(y), 270.0, 20.0, sign), torch.tensor(positive))
    delta = drive_derivative(y[:, None], y[:, None].sign(), wrong[:, None], sign / 20.0, torch.empty_like(y[:, None]))
    after = torch.relu(x @ (weights + 0.1 * weight_gradient(delta, x[None])[0]).T)
    assert not torch.allclose(after, y, rtol=1e-3)
    torch.testing.assert_close(length_normalization(after), length_normalization(y))


@pytest.mark.parametrize("wanted", [0.01, 1.0, 20.0, 500.0])
def test_one_update_reaches_the_wanted_goodness(wanted, random):
    """Eq. 4: for one input of length 1, ε = √(S*/S) - 1 lands exactly on S*."""
    weights, x = random_area(random, mean_square=False)
    y = torch.relu(x @ weights.T)
    epsilon = one_shot_rate(wanted, sum_of_squares(y).item())  # absorbs the 2 ∂log p of eq. 3
    after = torch.relu(x @ (weights + epsilon * weight_gradient(y[None], x[None])[0]).T)
    assert sum_of_squares(after).item() == pytest.approx(wanted)
    torch.testing.assert_close(length_normalization(after), length_normalization(y))


@pytest.mark.parametrize("wanted", [0.01, 1.0, 20.0, 500.0])
def test_one_update_reaches_the_wanted_goodness_from_what_areas_hear(wanted, random):
    """Eq. 4 again: the same ε, for inputs of mean square 1."""
    weights, x = random_area(random, mean_square=True)
    y = torch.relu(x @ weights.T)
    epsilon = unit_input_rate(one_shot_rate(wanted, sum_of_squares(y).item()), INPUTS)
    after = torch.relu(x @ (weights + epsilon * weight_gradient(y[None], x[None])[0]).T)
    assert sum_of_squares(after).item() == pytest.approx(wanted)


@pytest.mark.parametrize("average, cost", [(0.9, 0.001), (0.0, 0.0), (0.5, 0.2)])
def test_one_update_smooths_decays_and_moves(average, cost, random):
    weights, smooth, gradient = (torch.randn(2, 3, 4, generator=random) for _ in range(3))
    smooth_after = average * smooth + (1 - average) * gradient
    weights_after = weights + 0.3 * (smooth_after - cost * weights)
    apply_gradient(weights, smooth, gradient, 0.3, average, cost)
    torch.testing.assert_close(smooth, smooth_after)
    torch.testing.assert_close(weights, weights_after)
