"""Arrays are used again, and never by two at once."""

import torch

from cortexff.engines.workspace import Workspace


def lend() -> Workspace:
    return Workspace(torch.device("cpu"))


def test_an_array_is_used_again():
    workspace = lend()
    with workspace.lend("a") as take:
        first = take("x", (2, 3), torch.float32)
        assert first.shape == (2, 3) and not first.any()
        first += 1
        assert take("x", (2, 3), torch.float32) is first
    with workspace.lend("a") as take:
        assert take("x", (2, 3), torch.float32) is first and first.all()


def test_another_shape_precision_or_purpose_makes_another_array():
    workspace = lend()
    with workspace.lend("a") as take:
        first = take("x", (2, 3), torch.float32)
    for purpose, shape, dtype in (
        ("b", (2, 3), torch.float32),
        ("a", (3,), torch.float32),
        ("a", (3,), torch.bfloat16),
    ):
        with workspace.lend(purpose) as take:
            found = take("x", shape, dtype)
            assert found is not first and found.shape == shape and found.dtype == dtype
    assert len(workspace.kept) == 2  # of each name the last


def test_what_runs_side_by_side_stays_apart():
    workspace = lend()
    with workspace.lend("a") as outer, workspace.lend("a") as inner:
        assert outer("x", (2,), torch.float32) is not inner("x", (2,), torch.float32)


def test_arrays_come_back_after_an_error():
    workspace = lend()
    try:
        with workspace.lend("a") as take:
            first = take("x", (2,), torch.float32)
            raise ValueError
    except ValueError:
        pass
    with workspace.lend("a") as take:
        assert take("x", (2,), torch.float32) is first
