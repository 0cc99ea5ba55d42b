"""What is done to the pixels of images: hybrids of two (§3.2), labels written into them and shifts (§3.3), noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def masks(shape: Sequence[int], count: int, stream: np.random.Generator, blurs: int) -> np.ndarray:
    """Fairly large regions of ones and zeros: random bits, blurred again and again, then cut at 0.5 (§3.2).

    shape    (rows, columns) of an image
    blurs    times that the filter [1/4, 1/2, 1/4] runs over rows and columns; beyond the edge lies what is on it.
             What is 0.5 in the end is a zero: after one blur 45 % are ones, after six half of them
    returns  (count, rows, columns), bool
    """
    field = stream.integers(0, 2, (count, *shape[:2])).astype(np.float32)
    for _ in range(blurs):
        for axis in (1, 2):
            padded = np.pad(field, [(int(axis == a),) * 2 for a in range(3)], mode="edge")
            before, here, after = (
                np.moveaxis(padded, axis, 0)[place : place + field.shape[axis]] for place in (0, 1, 2)
            )
            field = np.moveaxis(0.25 * before + 0.5 * here + 0.25 * after, 0, axis)
    return field > 0.5


def hybrids(
    images: Tensor,
    others: Tensor,
    shape: Sequence[int],
    streams: Sequence[np.random.Generator],
    blurs: int,
    first: int = 0,
) -> Tensor:
    """One image seen through a mask, and another in the rest: like digits from nearby, like none from afar (§3.2).

    images, others  (subjects or 1, cases, pixels)
    shape           of one image
    streams         one random stream a subject
    first           place of the first case in its minibatch; a draw belongs to a place
    returns         (subjects, cases, pixels)
    """
    cases, depth = images.shape[1], int(np.prod(shape[2:], dtype=int))
    drawn = np.stack([masks(shape, first + cases, stream, blurs)[first:] for stream in streams])
    mask = torch.from_numpy(drawn.reshape(len(streams), cases, -1).repeat(depth, -1)).to(images.device)
    return torch.where(mask, images, others)


def jittered(
    images: Tensor, shape: Sequence[int], streams: Sequence[np.random.Generator], reach: int, first: int = 0
) -> Tensor:
    """Each image shifted by up to ``reach`` pixels up or down and left or right, evenly; zeros move in (§3.3).

    Shapes as in :func:`hybrids`; a reach of 2 gives the paper's 25 shifts.
    """
    subjects, cases = len(streams), images.shape[1]
    rows, columns = shape[:2]
    drawn = [stream.integers(0, 2 * reach + 1, (first + cases, 2))[first:] for stream in streams]
    shifts = torch.from_numpy(np.stack(drawn)).to(images.device)
    maps = images.view(len(images), cases, rows, columns, -1).expand(subjects, -1, -1, -1, -1)
    wide = torch.nn.functional.pad(maps, (0, 0, reach, reach, reach, reach))
    down, right = (
        shifts[..., axis, None] + torch.arange(size, device=images.device) for axis, size in ((0, rows), (1, columns))
    )
    subject, case = torch.arange(subjects).view(-1, 1, 1, 1), torch.arange(cases).view(1, -1, 1, 1)
    return wide[subject, case, down.unsqueeze(3), right.unsqueeze(2)].flatten(2)


def labelled(images: Tensor, labels: Tensor) -> Tensor:
    """Images whose first pixels are replaced by a label (§3.3).

    images   (subjects or 1, cases, pixels)
    labels   (subjects or 1, cases or 1, versions, classes), such as one-of-N
    returns  (subjects, cases, versions, pixels)
    """
    subjects, cases = max(len(images), len(labels)), images.shape[1]
    shown = images.unsqueeze(2).expand(subjects, -1, labels.shape[2], -1).clone()
    shown[..., : labels.shape[-1]] = labels.expand(subjects, cases, -1, -1)
    return shown


def shuffled_pixels(images: Tensor, streams: Sequence[np.random.Generator]) -> Tensor:
    """Noise with the pixels of real images: each image's pixels in an order of its own, (subjects, cases, pixels)."""
    orders = np.stack([stream.random(images.shape[1:]).argsort(-1) for stream in streams])
    return images.gather(-1, torch.from_numpy(orders).to(images.device))
