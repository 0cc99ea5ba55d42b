"""Labels as context, and the negative data made from them."""

import numpy as np
import pytest
import torch

from cortexff.stimuli.labels import candidates, hard_negatives, neutral, one_hot, random_negatives

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
CLASSES = 10


def streams(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(number) for number in range(count)]


def chi_square(counts: np.ndarray, wanted: np.ndarray) -> float:
    """Distance of counts from those wanted, among the classes that may occur."""
    possible = wanted > 0
    return float(((counts - wanted)[possible] ** 2 / wanted[possible]).sum())


BOUND = 30.0  # chi-square of eight degrees of freedom stays below it in all but 2 cases of 10,000


def test_one_hot():
    found = one_hot(torch.tensor([[2, 0]]), 3)
    assert found.dtype == torch.float32
    assert found.tolist() == [[[0, 0, 1], [1, 0, 0]]]


def test_neutral_label_is_even_and_adds_up_to_1():
    """§3.3: "a neutral label composed of ten entries of 0.1"."""
    torch.testing.assert_close(neutral(10), torch.full((10,), 0.1))
    assert neutral(7).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_candidates_are_every_label_as_versions_of_one_case(device):
    found = candidates(CLASSES, device)
    assert found.shape == (1, 1, CLASSES, CLASSES) and found.device.type == device
    torch.testing.assert_close(found[0, 0].cpu(), one_hot(torch.arange(CLASSES), CLASSES))


def beliefs(kind: str, labels: torch.Tensor) -> torch.Tensor:
    """One-pass softmaxes, (subjects, cases, classes), from doubtful to saturated."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(*labels.shape, CLASSES, generator=random)
    true = one_hot(labels, CLASSES)
    return {
        "doubtful": torch.softmax(logits, -1),
        "sharp": torch.softmax(60 * logits, -1),  # most entries are exactly 0
        "sure and right": torch.softmax(60 * true + logits, -1),
        "saturated and right": true,
        "saturated and wrong": true.roll(1, -1),
        "silent": torch.zeros_like(true),
    }[kind]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(
    "kind", ["doubtful", "sharp", "sure and right", "saturated and right", "saturated and wrong", "silent"]
)
def test_a_hard_negative_is_never_the_true_label(kind, device):
    labels = torch.arange(4000).remainder(CLASSES).expand(2, -1)
    found = hard_negatives(beliefs(kind, labels).to(device), labels.to(device), streams(2))
    assert found.shape == labels.shape and found.dtype == torch.int64 and found.device.type == device
    assert (found.cpu() != labels).all()
    assert found.min() >= 0 and found.max() < CLASSES
    if kind == "saturated and wrong":
        assert (found.cpu() == (labels + 1) % CLASSES).all()  # all belief lies in one wrong label


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2.0**-53])
def test_the_ends_of_the_random_numbers_are_safe(draw):
    """The smallest and the largest number a stream can give still choose a wrong label that is believed in."""

    class Constant:
        def random(self, size: int) -> np.ndarray:
            return np.full(size, draw)

    labels = torch.arange(CLASSES).expand(1, -1)
    for kind in ("doubtful", "sharp", "sure and right", "saturated and right"):
        belief = beliefs(kind, labels)
        found = hard_negatives(belief, labels, [Constant()])
        assert (found != labels).all() and found.min() >= 0 and found.max() < CLASSES
        if kind in ("doubtful", "sure and right"):
            assert (belief.gather(-1, found.unsqueeze(-1)) > 0).all()


@pytest.mark.parametrize("true_label", [0, 4, 9])
def test_hard_negatives_are_drawn_in_proportion_to_belief(true_label):
    """§3.4: "choosing between the incorrect classes in proportion to their probabilities"."""
    belief, cases = torch.softmax(torch.linspace(0, 3, CLASSES), 0), 5000
    labels = torch.full((2, cases), true_label)
    found = hard_negatives(belief.expand(2, cases, -1), labels, streams(2))
    share = belief.double().numpy().copy()
    share[true_label] = 0
    for subject in range(2):
        counts = np.bincount(found[subject], minlength=CLASSES)
        assert chi_square(counts, cases * share / share.sum()) < BOUND


def test_a_network_without_doubt_gives_even_negatives():
    labels = torch.full((1, 9000), 3)
    counts = np.bincount(hard_negatives(one_hot(labels, CLASSES), labels, streams(1))[0], minlength=CLASSES)
    assert counts[3] == 0
    assert chi_square(counts, np.where(np.arange(CLASSES) == 3, 0, 1000)) < BOUND


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_random_negatives_are_even_and_never_true(device):
    labels = torch.full((2, 9000), 7)
    found = random_negatives(labels.to(device), CLASSES, streams(2)).cpu()
    for subject in range(2):
        counts = np.bincount(found[subject], minlength=CLASSES)
        assert counts[7] == 0
        assert chi_square(counts, np.where(np.arange(CLASSES) == 7, 0, 1000)) < BOUND


@pytest.mark.parametrize("draw", ["hard", "random"])
def test_negatives_of_a_subject_are_its_own(draw):
    """The second subject of two draws what it draws alone."""
    labels = torch.arange(60).remainder(CLASSES).expand(2, -1)
    belief = beliefs("doubtful", labels)
    if draw == "hard":
        both, alone = hard_negatives(belief, labels, streams(2)), hard_negatives(belief[1:], labels[1:], streams(2)[1:])
    else:
        both, alone = (
            random_negatives(labels, CLASSES, streams(2)),
            random_negatives(labels[1:], CLASSES, streams(2)[1:]),
        )
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[0], both[1])
