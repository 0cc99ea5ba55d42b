"""Local receptive fields in tiles: the same numbers as the full matrix with zeros, whatever the geometry."""

import numpy as np
import pytest
import torch

from cortexff.engines import projections
from cortexff.engines.projections import AllToAll, Local
from cortexff.engines.workspace import Workspace
from cortexff.receptive_fields import ReceptiveField, connection_mask, every_field_is_on_map

torch.set_num_threads(1)
CPU = torch.device("cpu")
CIFAR = ((32, 32, 3), (32, 32, 3), ReceptiveField((11, 11), (1.0, 1.0)))
NOTE_8 = [
    ((28, 28), (4, 4, 128), ReceptiveField((10, 10), (6.0, 6.0))),
    ((4, 4, 128), (3, 3, 220), ReceptiveField((2, 2), (1.0, 1.0))),
    ((3, 3, 220), (2, 2, 512), ReceptiveField((2, 2), (1.0, 1.0))),
]


def random_maps(number: int) -> tuple[tuple, tuple, ReceptiveField]:
    """Two maps and a field between them, topographic or not, whole strides or fractions."""
    random = np.random.default_rng(number)
    while True:
        source, target = (tuple(random.integers(1, 9, size=random.integers(2, 4)).tolist()) for _ in range(2))
        size = tuple(random.integers(1, 6, size=2).tolist())
        stride = tuple(
            float(random.choice([source[axis] / target[axis], random.integers(1, 3), random.uniform(0.3, 2.5)]))
            for axis in (0, 1)
        )
        if all(every_field_is_on_map(source[a], target[a], size[a], stride[a]) for a in (0, 1)):
            return source, target, ReceptiveField(size, stride)


def both(maps: tuple) -> tuple[Local, AllToAll, torch.Tensor]:
    source, target, field = maps
    mask = torch.from_numpy(connection_mask(source, target, field)).float()
    return Local("map", source, target, field, CPU), AllToAll("map", mask.shape[1], mask.shape[0], mask), mask


def brought_and_gradient(projection: AllToAll, matrix, heard, derivative, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What the second of three steps brings, and the gradient of all, the last of them added to the others."""
    subjects, rows, _ = heard.shape
    with Workspace(CPU).lend("test") as take:
        ring = projection.ring(take, subjects, rows + 1, dtype)
        weights, derivative = projection.stored(matrix), derivative.to(dtype)
        gradient = torch.full_like(weights, torch.nan)
        steps = [slice(0, rows // 4), slice(rows // 4, rows // 2), slice(rows // 2, rows)]
        for place in steps:
            projection.hear(ring, place, heard[:, place])
        brought = projection.bring(take, weights.to(dtype), ring[:, steps[1]]).clone()
        for more, part in ((False, slice(0, rows // 2)), (True, steps[2])):
            projection.add_gradient(take, derivative[:, part], ring[:, part], gradient, more)
        return brought, projection.matrix(gradient * projection.mask)


@pytest.mark.parametrize("subjects", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("number", range(40))
def test_tiles_equal_the_full_matrix_with_zeros(number, dtype, subjects, monkeypatch):
    monkeypatch.setattr(projections, "ROWS_AT_ONCE", 5)
    local, dense, mask = both(random_maps(number))
    random = torch.Generator().manual_seed(number)
    matrix = torch.randn(subjects, *mask.shape, generator=random) * mask
    heard = torch.randn(subjects, 24, mask.shape[1], generator=random)
    derivative = torch.randn(subjects, 24, mask.shape[0], generator=random)
    found = brought_and_gradient(local, matrix, heard, derivative, dtype)
    wanted = brought_and_gradient(dense, matrix, heard, derivative, dtype)
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_random_maps_hold_everything():
    """Several tiles and one, margins above, patches that are narrower at an edge."""
    found = [both(random_maps(number))[0] for number in range(40)]
    assert any(len(each.rows.patches) > 1 and each.above for each in found)
    assert any(len(each.rows.patches) == 1 for each in found)
    assert any(len(set(each.shapes)) > 1 for each in found)


@pytest.mark.parametrize("number", range(40))
def test_a_matrix_comes_back_from_its_tiles(number):
    local, _, mask = both(random_maps(number))
    matrix = torch.randn(3, *mask.shape) * mask
    assert torch.equal(local.matrix(local.stored(matrix)), matrix)
    assert torch.equal(local.matrix(local.mask), mask)
    assert local.mask.sum() == mask.sum() and (local.fan_in == mask.sum(1).numpy()).all()


@pytest.mark.parametrize("maps, most", [(CIFAR, 2.2), *((maps, 1.3) for maps in NOTE_8)])
def test_memory_is_that_of_the_synapses(maps, most):
    """Weights stored are a small multiple of the real synapses; the full matrix of §4 has ten times as many."""
    local, _, mask = both(maps)
    assert local.mask.numel() <= most * mask.sum()
