"""A checkpoint reads back exactly, and is the old one or the new one, never half of either."""

import h5py
import numpy as np
import pytest

from cortexff.errors import CortexffError
from cortexff.protocol import checkpoint

POSITION = {"segment": 2, "updates": 7, "active": [0, 2], "rows": {"max/deprived": 3}}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "now/state/weights/V1→V2": random.standard_normal((2, 5, 4)).astype(np.float32),
        "now/age": np.array([3, 2**40]),
        "ends/development/softmax/weights": np.array([np.nan, np.inf, -0.0]),
        "ends/development/empty": np.zeros((0, 3), dtype=np.float32),
    }


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_what_was_saved_is_loaded_exactly(tmp_path):
    path = checkpoint.path_for(tmp_path / "run.h5")
    checkpoint.save(path, arrays(), POSITION)
    found, position = checkpoint.load(path)
    assert_same(found, arrays())
    assert position == POSITION
    assert path.parent == tmp_path and path.name != "run.h5"


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "run.checkpoint.h5"
    for seed in (0, 1):
        checkpoint.save(path, arrays(seed), {"updates": seed})
    found, position = checkpoint.load(path)
    assert_same(found, arrays(1))
    assert position == {"updates": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


class Fails:
    """An array that cannot be had: the process ends while a checkpoint is written."""

    def __array__(self, *args, **kwargs):
        raise KeyboardInterrupt


def test_a_checkpoint_cut_off_while_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "run.checkpoint.h5"
    checkpoint.save(path, arrays(), POSITION)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {**arrays(1), "last": Fails()}, {"updates": 8})
    found, position = checkpoint.load(path)
    assert_same(found, arrays())
    assert position == POSITION
    checkpoint.save(path, arrays(1), POSITION)  # what lies about of the other one is no hindrance
    assert_same(checkpoint.load(path)[0], arrays(1))


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_checkpoint_is_one_line(tmp_path, share):
    path = tmp_path / "run.checkpoint.h5"
    checkpoint.save(path, arrays(), POSITION)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CortexffError, match="not a checkpoint that can be read"):
        checkpoint.load(path)


def test_damaged_bytes_are_one_line_or_do_not_matter(tmp_path):
    path = tmp_path / "run.checkpoint.h5"
    checkpoint.save(path, arrays(), POSITION)
    content, random = path.read_bytes(), np.random.default_rng(0)
    for start in random.integers(0, len(content) - 64, 60):
        path.write_bytes(content[:start] + bytes(64) + content[start + 64 :])
        try:
            checkpoint.load(path)
        except CortexffError as error:
            assert str(path) in str(error)


def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path):
    path = tmp_path / "run.checkpoint.h5"
    h5py.File(path, "w").close()
    with pytest.raises(CortexffError, match="not a checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_no_checkpoint_is_one_line(tmp_path, make):
    path = tmp_path / "run.checkpoint.h5"
    make(path)
    with pytest.raises(CortexffError, match="no checkpoint"):
        checkpoint.load(path)
