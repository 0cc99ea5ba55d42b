"""CIFAR-10 is read alike from the publisher's files, their archive and the copy in JPEG files."""

import io
import tarfile
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from cortexff.errors import CortexffError
from cortexff.stimuli import cifar, images

LABELS = {name: [number, 9 - number] for number, name in enumerate(chain(*cifar.BATCHES.values()))}


def pictures(name: str) -> np.ndarray:
    """Two images of one colour each, (2, 32, 32, 3): JPEG files keep them as they are, or nearly so."""
    seed = np.random.default_rng(list(LABELS).index(name))
    return np.broadcast_to(seed.integers(0, 256, (2, 1, 1, 3), dtype=np.uint8), (2, 32, 32, 3))


def record_bytes(name: str) -> bytes:
    labelled = zip(LABELS[name], pictures(name), strict=True)
    return b"".join(bytes([label]) + picture.transpose(2, 0, 1).tobytes() for label, picture in labelled)


def write_folder(folder):
    (folder / cifar.FOLDER).mkdir(parents=True)
    for name in LABELS:
        (folder / cifar.FOLDER / name).write_bytes(record_bytes(name))
    return folder / cifar.FOLDER


def write_archive(path, members: dict[str, bytes]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_binary_archive(folder):
    return write_archive(folder / cifar.ARCHIVE, {f"{cifar.FOLDER}/{name}": record_bytes(name) for name in LABELS})


def jpeg_members() -> dict[str, bytes]:
    members, counts = {}, {"train": 0, "test": 0}
    for part, names in cifar.BATCHES.items():
        for name in names:
            for label, picture in zip(LABELS[name], pictures(name), strict=True):
                content = io.BytesIO()
                Image.fromarray(picture).save(content, "JPEG", quality=95, subsampling=0)
                members[f"{part}/{counts[part]:05}_{label}.jpg"] = content.getvalue()
                counts[part] += 1
    return dict(reversed(members.items()))  # their numbers decide, not their order


def write_jpegs(folder):
    return write_archive(folder / cifar.JPEGS, jpeg_members())


@pytest.mark.parametrize("write", [write_folder, write_binary_archive, write_jpegs])
def test_every_layout_is_read(tmp_path, monkeypatch, write):
    path = write(tmp_path / "cifar-10")
    assert cifar.find(tmp_path / "cifar-10") == path
    monkeypatch.setenv("CORTEXFF_DATA", str(tmp_path))
    found = images.load("cifar10")
    assert found.source == path.name
    assert found.shape == (32, 32, 3) and found.training_images.dtype == np.float32
    for names, shown, labels in (
        (cifar.BATCHES["train"], found.training_images, found.training_labels),
        (cifar.BATCHES["test"], found.test_images, found.test_labels),
    ):
        assert labels.tolist() == [label for name in names for label in LABELS[name]]
        wanted = np.concatenate([pictures(name) for name in names]).reshape(-1, 3072) / 255
        assert np.abs(shown - wanted).max() < (0.02 if write is write_jpegs else 1e-6)


def test_the_publishers_files_come_before_the_copy(tmp_path):
    write_jpegs(tmp_path)
    write_binary_archive(tmp_path)
    assert cifar.find(tmp_path).name == cifar.ARCHIVE
    assert cifar.find(tmp_path / "elsewhere") is None


def test_colours_and_places_are_in_order(tmp_path):
    """Units of an area of shape [32, 32, 3] are counted row by row, column by column, channel by channel."""
    write_folder(tmp_path)
    planes = np.arange(3072) % 251
    (tmp_path / cifar.FOLDER / "test_batch.bin").write_bytes(bytes([3]) + planes.astype(np.uint8).tobytes())
    image = cifar.read(tmp_path / cifar.FOLDER)["test"][0][0].reshape(32, 32, 3)
    assert image[5, 7].tolist() == [planes[5 * 32 + 7 + 1024 * colour] for colour in range(3)]


def short_batch(folder):
    path = write_folder(folder)
    (path / "test_batch.bin").write_bytes(b"\x01" * 3000)
    return path


def wrong_label(folder):
    path = write_folder(folder)
    (path / "data_batch_3.bin").write_bytes(b"\x0a" + b"\x00" * 3072)
    return path


def missing_batch(folder):
    path = write_folder(folder)
    (path / "data_batch_5.bin").unlink()
    return path


def missing_member(folder):
    return write_archive(folder / cifar.ARCHIVE, {f"{cifar.FOLDER}/data_batch_1.bin": record_bytes("data_batch_1.bin")})


def truncated_archive(folder):
    path = write_jpegs(folder)
    path.write_bytes(path.read_bytes()[:-20])  # the members are all there, the end is not
    return path


def no_archive(folder):
    folder.mkdir(exist_ok=True)
    (folder / cifar.ARCHIVE).write_bytes(b"not found")
    return folder / cifar.ARCHIVE


def strange_name(folder):
    return write_archive(folder / cifar.JPEGS, {"train/cat.jpg": b""})


def no_jpeg(folder):
    return write_archive(folder / cifar.JPEGS, {"train/00000_1.jpg": b"GIF"})


def no_test_part(folder):
    members = {name: content for name, content in jpeg_members().items() if name.startswith("train")}
    return write_archive(folder / cifar.JPEGS, members)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (short_batch, "holds 3000 bytes, expected a multiple of 3073"),
        (wrong_label, "data_batch_3.bin: holds the label 10, expected labels from 0 to 9"),
        (missing_batch, "data_batch_5.bin: cannot be read (No such file or directory)"),
        (missing_member, "has no cifar-10-batches-bin/data_batch_2.bin"),
        (truncated_archive, "damaged or cut short"),
        (no_archive, "damaged or cut short"),
        (strange_name, "found train/cat.jpg, expected names such as train/00000_1.jpg"),
        (no_jpeg, "train/00000_1.jpg is no JPEG file"),
        (no_test_part, "has 0 images test/*.jpg, expected numbers from 00000 on"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, spoil, words):
    with pytest.raises(CortexffError) as error:
        cifar.read(spoil(tmp_path))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_real_thing():
    path = cifar.find(images.data_folder() / "cifar-10")
    if path is None:
        pytest.skip("no CIFAR-10 in the data folder (CORTEXFF_DATA)")
    for part, (shown, labels) in cifar.read(path).items():
        each = {"train": 5000, "test": 1000}[part]
        assert shown.shape == (10 * each, 3072) and np.bincount(labels).tolist() == [each] * 10
        brightness = shown.reshape(-1, 32, 32, 3).mean((0, 1, 2))
        assert brightness.argmax() == 0 and brightness.argmin() == 2  # red is brightest, blue darkest, in both parts
