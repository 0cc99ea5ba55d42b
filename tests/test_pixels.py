"""What is done to the pixels of images: hybrids, labels in the image, shifts, noise."""

import numpy as np
import pytest
import torch

from cortexff.stimuli.pixels import hybrids, jittered, labelled, masks, shuffled_pixels

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
DEVICES = pytest.mark.parametrize("device", ["cpu", CUDA])


def streams(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(number) for number in range(count)]


def blurred(field: np.ndarray) -> np.ndarray:
    """[1/4, 1/2, 1/4] over rows, then over columns, place by place."""
    for _ in range(2):
        field = np.array(
            [
                [
                    sum(w * row[min(max(c + d, 0), len(row) - 1)] for d, w in ((-1, 0.25), (0, 0.5), (1, 0.25)))
                    for c in range(len(row))
                ]
                for row in field
            ]
        ).T
    return field


@pytest.mark.parametrize("blurs", [0, 1, 6])
def test_masks_are_random_bits_blurred_and_cut(blurs):
    """§3.2: "starting with a random bit image and then repeatedly blurring"."""
    (found,), stream = masks((7, 5), 1, np.random.default_rng(3), blurs), np.random.default_rng(3)
    field = stream.integers(0, 2, (1, 7, 5))[0].astype(float)
    for _ in range(blurs):
        field = blurred(field)
    assert found.tolist() == (field > 0.5).tolist()


def test_blurring_makes_large_regions():
    def borders(blurs: int) -> int:
        field = masks((28, 28), 50, np.random.default_rng(0), blurs)
        return int((field[:, 1:] != field[:, :-1]).sum() + (field[..., 1:] != field[..., :-1]).sum())

    counts = [borders(blurs) for blurs in (0, 1, 3, 6, 12)]
    assert counts == sorted(counts, reverse=True) and counts[0] > 4 * counts[3]
    assert 0.45 < masks((28, 28), 50, np.random.default_rng(0), 6).mean() < 0.55


@DEVICES
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3)])
def test_each_pixel_of_a_hybrid_is_that_of_one_of_the_two(shape, device):
    images = torch.rand(1, 5, int(np.prod(shape)), device=device) + 1
    found = hybrids(images, -images, shape, streams(2), blurs=2)
    assert found.shape == (2, 5, images.shape[-1]) and torch.equal(found.abs(), images.expand_as(found))
    here = (found > 0).view(2, 5, 6, 4, -1)
    assert torch.equal(here, here[..., :1].expand_as(here))  # all colours of a place come from the same image
    assert 0 < here.float().mean() < 1 and not torch.equal(here[0], here[1])


def test_a_draw_belongs_to_a_place_of_the_minibatch():
    images = torch.rand(1, 6, 16)
    for draw in (
        lambda part, at: hybrids(part, -part, (4, 4), streams(2), 1, at),
        lambda part, at: jittered(part, (4, 4), streams(2), 1, at),
    ):
        assert torch.equal(draw(images, 0)[:, 4:], draw(images[:, 4:], 4))


@DEVICES
def test_jitter_gives_25_shifts_evenly(device):
    """§3.3: "jittering the images by up to two pixels in each direction to get 25 different shifts"."""
    image = torch.zeros(1, 5000, 9, 9, device=device)
    image[..., 4, 4] = 1
    found = jittered(image.flatten(2), (9, 9), streams(1), reach=2).view(-1, 9, 9).cpu()
    assert (found.sum((1, 2)) == 1).all()
    counts = found.sum(0)
    assert (counts[2:7, 2:7] > 150).all() and (counts[2:7, 2:7] < 250).all() and counts[2:7, 2:7].sum() == 5000


def test_what_is_shifted_out_is_lost_and_zeros_move_in():
    image = torch.arange(1.0, 13).view(1, 1, 12)
    found = {tuple(jittered(image, (3, 4), [np.random.default_rng(n)], 1)[0, 0].tolist()) for n in range(200)}
    maps = np.pad(np.arange(1.0, 13).reshape(3, 4), 1)
    assert found == {tuple(maps[r : r + 3, c : c + 4].ravel()) for r in range(3) for c in range(3)}


def test_colours_shift_together():
    image = torch.rand(1, 4, 5, 5, 3)
    found = jittered(image.flatten(2), (5, 5, 3), streams(1), 2).view(4, 5, 5, 3)
    for colour in range(3):
        alone = jittered(image[..., colour].flatten(2), (5, 5), streams(1), 2).view(4, 5, 5)
        assert torch.equal(found[..., colour], alone)


@DEVICES
def test_labels_replace_the_first_pixels_alone(device):
    """§3.3: "replace the first 10 pixels by a one of N representation of the label"."""
    images = torch.rand(1, 3, 20, device=device)
    labels = torch.eye(4, device=device)[torch.tensor([[[0, 1], [2, 3], [1, 0]], [[3, 3], [0, 0], [1, 1]]])]
    found = labelled(images, labels)
    assert found.shape == (2, 3, 2, 20)
    assert torch.equal(found[..., :4], labels)
    assert torch.equal(found[..., 4:], images[:, :, None, 4:].expand(2, -1, 2, -1))
    assert (images[..., :4] < 1).all()  # the images themselves are as they were


@DEVICES
def test_shuffled_pixels_keep_the_histogram_of_each_image(device):
    images = torch.rand(2, 5, 49, generator=torch.Generator().manual_seed(0))
    found = shuffled_pixels(images.to(device), streams(2)).cpu()
    assert torch.equal(found.sort(-1).values, images.sort(-1).values)
    assert not torch.equal(found, images)
    pairs = zip(found.view(-1, 49), images.view(-1, 49), strict=True)
    orders = {tuple(shuffled.argsort()[image.argsort().argsort()].tolist()) for shuffled, image in pairs}
    assert len(orders) == 10  # each image in an order of its own
