"""What is passed on: orientation without length, and units kept alike."""

import pytest
import torch

from cortexff.equations.normalization import length_normalization, peer_derivative

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.fixture(params=["cpu", CUDA])
def activity(request):
    """Activity of three subjects, four cases and seven units."""
    return torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0)).to(request.param)


def test_what_is_heard_has_mean_square_1(activity):
    heard = length_normalization(activity)
    torch.testing.assert_close(heard.square().mean(-1), torch.ones_like(heard[..., 0]))


def test_only_the_orientation_is_left(activity):
    """Note 5: no mean is subtracted, so what is heard is parallel to the activity."""
    cosine = torch.nn.functional.cosine_similarity(length_normalization(activity), activity, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("factor", [1e-6, 0.5, 3.0, 1e6])
def test_length_is_not_passed_on(activity, factor):
    torch.testing.assert_close(length_normalization(factor * activity), length_normalization(activity))


def test_silence_is_passed_on_as_zeros(activity):
    activity[1] = 0
    heard = length_normalization(activity)
    assert torch.isfinite(heard).all()
    assert (heard[1] == 0).all() and (heard[0] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_result_is_written_in_the_precision_of_its_place(activity, dtype):
    place = torch.empty_like(activity, dtype=dtype)
    assert length_normalization(activity, out=place) is place
    torch.testing.assert_close(place, length_normalization(activity).to(dtype))


def test_peers_pull_towards_the_mean_of_their_area():
    """Note 9: quiet units are raised and busy ones lowered, and the area as a whole is left alone."""
    found = peer_derivative(torch.tensor([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]]), strength=0.5)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5, -1.5], [0.0, 0.0, 0.0]]))


def test_peers_are_subjects_own():
    mean_activity = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    together = peer_derivative(mean_activity, 0.3)
    alone = torch.cat([peer_derivative(one[None], 0.3) for one in mean_activity])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together.sum(-1), torch.zeros(2))
