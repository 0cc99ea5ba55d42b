"""Image sets: what is loaded, how it is split, and what is said about a file that is not what it should be."""

import dataclasses
import gzip
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from cortexff.errors import CortexffError
from cortexff.stimuli import images as image_sets
from cortexff.stimuli.images import centre, hold_out, load, read_idx

CLOSED_PORT = "http://127.0.0.1:9/"
TRAINING_LABELS = [5, 7, 6, 5, 7, 0, 5, 3, 4, 5]  # of the digits, as first drawn
TEST_LABELS = [9, 9, 2, 0, 1, 0, 0, 1, 6, 2]


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of unsigned bytes in the idx format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_set(data: Path, folder: str = "mnist", suffix: str = ".gz", **changes: np.ndarray) -> Path:
    """A tiny image set in MNIST's layout, 6 training and 4 test cases of 3x2 pixels; ``changes`` replace arrays."""
    random = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": random.integers(0, 256, (6, 3, 2)),
        "train-labels-idx1-ubyte": random.integers(0, 10, 6),
        "t10k-images-idx3-ubyte": random.integers(0, 256, (4, 3, 2)),
        "t10k-labels-idx1-ubyte": random.integers(0, 10, 4),
    } | {key.replace("_", "-"): array for key, array in changes.items()}
    (data / folder).mkdir(parents=True)
    for name, array in arrays.items():
        content = idx_bytes(np.asarray(array, np.uint8))
        (data / folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    return data / folder


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder, with no publisher to be reached."""
    monkeypatch.setenv("CORTEXFF_DATA", str(tmp_path))
    for name in image_sets.ADDRESSES:
        monkeypatch.setitem(image_sets.ADDRESSES, name, CLOSED_PORT)
    return tmp_path


def error_of(call, *arguments) -> str:
    """The message of the CortexffError that the call must raise; one line."""
    with pytest.raises(CortexffError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_well_formed(images):
    """Types, ranges and shapes as the docstring of Images promises."""
    for part in ("training", "validation", "test"):
        pixels, labels = getattr(images, f"{part}_images"), getattr(images, f"{part}_labels")
        assert (pixels.dtype, labels.dtype) == (np.float32, np.int64)
        assert pixels.shape == (len(labels), images.shape[0] * images.shape[1])
        assert pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 1
        assert labels.min(initial=0) >= 0 and labels.max(initial=0) < images.classes


# The digits


def test_digits_are_all_there_once():
    from sklearn.datasets import load_digits

    images = load("digits")
    assert_well_formed(images)
    assert (images.name, images.shape, images.classes) == ("digits", (8, 8), 10)
    assert (len(images.training_labels), len(images.test_labels), len(images.validation_labels)) == (1400, 397, 0)
    pixels = np.concatenate([images.training_images, images.test_images])
    labels = np.concatenate([images.training_labels, images.test_labels])
    found = {(image.tobytes(), label) for image, label in zip(pixels, labels, strict=True)}
    source = load_digits()
    expected = {
        (image.tobytes(), label)
        for image, label in zip((source.data / 16).astype(np.float32), source.target, strict=True)
    }
    assert found == expected


def test_digits_have_the_same_split_for_good():
    """Results from different days compare only if nobody moves the test set."""
    first, second = load("digits"), load("digits")
    np.testing.assert_array_equal(first.test_images, second.test_images)
    assert first.training_labels[:10].tolist() == TRAINING_LABELS
    assert first.test_labels[:10].tolist() == TEST_LABELS
    assert np.bincount(first.test_labels).min() >= 30


def test_unknown_name_lists_the_known_ones():
    message = error_of(load, "fashion-mnist")
    assert "'fashion-mnist'" in message
    assert "did you mean 'fashion_mnist'?" in message
    assert "digits, fashion_mnist, mnist" in message


# Holding out


def test_hold_out_takes_each_case_once():
    before = load("digits")
    after = hold_out(before, 350)
    assert (len(after.validation_labels), len(after.training_labels)) == (350, 1050)
    both = np.concatenate([after.training_images, after.validation_images])
    assert sorted(map(bytes, both)) == sorted(map(bytes, before.training_images))
    np.testing.assert_array_equal(after.test_images, before.test_images)


def test_centred_images_lack_the_mean_of_the_training_images_alone():
    before = hold_out(load("digits"), 350)
    after = centre(before)
    mean = before.training_images.mean(0)
    np.testing.assert_allclose(after.training_images.mean(0), 0, atol=1e-6)
    for part in ("training_images", "validation_images", "test_images"):
        np.testing.assert_allclose(getattr(after, part) + mean, getattr(before, part), atol=1e-6)
        assert getattr(after, part).dtype == np.float32
    assert (after.split, after.source) == (before.split, before.source)


def test_hold_out_is_the_same_every_time_and_a_larger_one_holds_the_smaller():
    small, again, large = (hold_out(load("digits"), validation) for validation in (100, 100, 350))
    np.testing.assert_array_equal(small.validation_images, again.validation_images)
    assert set(map(bytes, small.validation_images)) <= set(map(bytes, large.validation_images))
    first = np.sort([416, 996, 1371, 12, 1347])  # as first drawn: kept results and checkpoints rely on it
    np.testing.assert_array_equal(hold_out(load("digits"), 5).validation_images, load("digits").training_images[first])
    assert small.split == again.split != large.split


@pytest.mark.parametrize("period", [2, 3, 4, 6, 7])
def test_hold_out_takes_no_side_in_a_set_whose_order_is_periodic(period):
    """As in MNIST, whose even training images were written by other people than its odd ones."""
    cases, validation = 60_000, 10_000
    place = np.arange(cases, dtype=np.int64)
    ordered = dataclasses.replace(load("digits"), training_images=place, training_labels=place % period)
    shares = np.bincount(hold_out(ordered, validation).validation_labels) / validation
    np.testing.assert_allclose(shares, 1 / period, atol=0.02)


def test_hold_out_nothing_changes_nothing():
    assert len(hold_out(load("digits"), 0).training_labels) == 1400


@pytest.mark.parametrize("validation", [-1, 1400, 5000])
def test_hold_out_leaves_something_to_learn_from(validation):
    message = error_of(hold_out, load("digits"), validation)
    assert f"hold out {validation} validation cases of 1400" in message
    assert "from 0 to 1399" in message


# The idx format


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_reads_back_what_was_written(tmp_path, seed, compress):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(0 if seed % 5 == 0 else 1, 6, size=seed % 5))
    array = random.integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "array"
    path.write_bytes(compress(idx_bytes(array)))
    found = read_idx(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_every_truncation_is_noticed(tmp_path, compress):
    whole = compress(idx_bytes(np.arange(40, dtype=np.uint8).reshape(2, 4, 5)))
    path = tmp_path / "cut.gz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert str(path) in error_of(read_idx, path)


def test_every_flipped_byte_gives_the_array_or_an_error(tmp_path):
    """gzip's own checksum covers the values; some bytes of its header (the date, say) carry nothing."""
    array = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    whole = gzip.compress(idx_bytes(array), mtime=0)
    path = tmp_path / "flipped.gz"
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            np.testing.assert_array_equal(read_idx(path), array)
        except CortexffError as error:
            assert str(path) in str(error)


def test_idx_of_another_kind(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(b"<html>")
    assert "starts with '3c 68 74 6d', expected '00 00 08'" in error_of(read_idx, path)
    path.write_bytes(bytes([0, 0, 13, 1, 0, 0, 0, 0]))  # 32-bit floating point
    assert "'00 00 0d 01'" in error_of(read_idx, path)
    assert "cannot be read (No such file" in error_of(read_idx, tmp_path / "absent")
    assert "cannot be read" in error_of(read_idx, tmp_path)


def test_idx_with_too_few_or_too_many_values(tmp_path):
    path = tmp_path / "array"
    path.write_bytes(idx_bytes(np.zeros((2, 3), np.uint8)) + b"\0")
    assert "holds 7 values, expected 6 for the shape (2, 3)" in error_of(read_idx, path)
    path.write_bytes(bytes([0, 0, 8, 4]) + b"\xff" * 16)  # a header that claims 2**128 values
    assert "holds 0 values" in error_of(read_idx, path)


# Sets in MNIST's layout


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_a_set_on_disk_is_read(data, name, folder, suffix):
    where = write_set(data, folder, suffix)
    images = load(name)
    assert_well_formed(images)
    assert (images.name, images.shape) == (name, (3, 2))
    raw = read_idx(where / f"train-images-idx3-ubyte{suffix}")
    np.testing.assert_allclose(images.training_images.reshape(6, 3, 2) * 255, raw, rtol=1e-6)
    np.testing.assert_array_equal(images.test_labels, read_idx(where / f"t10k-labels-idx1-ubyte{suffix}"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_labels_idx1_ubyte": np.zeros(5)}, "train-labels-idx1-ubyte.gz: holds 5 labels, expected 6 as in"),
        ({"t10k_labels_idx1_ubyte": [1, 2, 10, 3]}, "t10k-labels-idx1-ubyte.gz: holds the label 10, expected"),
        ({"train_images_idx3_ubyte": np.zeros(6)}, "train-images-idx3-ubyte.gz: magic number 2049 (1 dimensions),"),
        ({"t10k_labels_idx1_ubyte": np.zeros((4, 1, 1))}, "t10k-labels-idx1-ubyte.gz: magic number 2051"),
        ({"t10k_images_idx3_ubyte": np.zeros((4, 2, 2))}, "have shape (3, 2), its test images (2, 2)"),
    ],
)
def test_a_set_that_does_not_fit_together(data, changes, expected):
    write_set(data, **changes)
    assert expected in error_of(load, "mnist")


# Fetching


def test_without_a_network_one_line_says_what_to_do(data, capfd):
    where = write_set(data)
    (where / "t10k-labels-idx1-ubyte.gz").unlink()
    message = error_of(load, "mnist")
    assert f"t10k-labels-idx1-ubyte.gz is not in {where}" in message
    assert CLOSED_PORT in message
    assert "set CORTEXFF_DATA to a folder that has mnist/t10k-labels-idx1-ubyte.gz" in message
    assert capfd.readouterr() == ("", "")  # no word from pooch


def test_a_wrong_file_from_the_network_is_refused(data, monkeypatch):
    """A hotel's login page, say, comes back with status 200."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>please log in</html>")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(image_sets.ADDRESSES, "fashion_mnist", f"http://127.0.0.1:{server.server_port}/")
        message = error_of(load, "fashion_mnist")
        server.shutdown()
    assert "train-images-idx3-ubyte.gz is not in" in message
    assert "is not the publisher's file (its checksum differs)" in message
    assert list((data / "fashion-mnist").iterdir()) == []


def test_a_data_folder_that_is_not_there_is_not_made(data, monkeypatch):
    (data / "file").write_text("")
    for given in (data / "file", data / "mistyped"):
        monkeypatch.setenv("CORTEXFF_DATA", str(given))
        assert f"CORTEXFF_DATA is {given}, but there is no such folder" in error_of(load, "mnist")
    assert not (data / "mistyped").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_data_folder(data):
    data.chmod(0o500)
    try:
        assert "that folder cannot be written (PermissionError)" in error_of(load, "mnist")
    finally:
        data.chmod(0o700)


def test_the_default_folder_is_the_users_cache(monkeypatch):
    import pooch

    monkeypatch.delenv("CORTEXFF_DATA", raising=False)
    assert image_sets.data_folder() == pooch.os_cache("cortexff")


# The real ones, where they are at hand


@pytest.mark.parametrize(
    ("name", "training_labels", "test_labels", "mean", "deviation"),
    [
        ("mnist", [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], 0.1307, 0.3081),
        ("fashion_mnist", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7], 0.2860, 0.3530),
    ],
)
def test_the_published_sets(name, training_labels, test_labels, mean, deviation):
    folder = Path(os.environ.get("CORTEXFF_DATA", "")) / name.replace("_", "-")
    if not os.environ.get("CORTEXFF_DATA") or not folder.is_dir():
        pytest.skip(f"CORTEXFF_DATA has no {folder.name} folder")
    images = load(name)
    assert_well_formed(images)
    assert (images.shape, len(images.training_labels), len(images.test_labels)) == ((28, 28), 60000, 10000)
    assert images.training_labels[:10].tolist() == training_labels
    assert images.test_labels[:10].tolist() == test_labels
    assert images.training_images.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-4)
    assert images.training_images.std(dtype=np.float64) == pytest.approx(deviation, abs=1e-4)
