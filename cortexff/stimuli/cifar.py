"""CIFAR-10 as its publisher lays it out in binary files, in a folder or an archive, or as a copy in small JPEG files.

Images come as bytes, (cases, 3072): row by row, column by column, red, green and blue. Nothing is unpickled.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cortexff.errors import CortexffError

FOLDER, ARCHIVE, JPEGS = "cifar-10-batches-bin", "cifar-10-binary.tar.gz", "cifar-10-jpeg.tgz"
BATCHES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
SHAPE = (32, 32, 3)
RECORD = 1 + 32 * 32 * 3  # a label, then the red, the green and the blue pixels
JPEG = re.compile(r"(train|test)/(\d+)_(\d)\.jpg")  # place in its part, label

Part = tuple[np.ndarray, np.ndarray]  # images and labels


def find(folder: Path) -> Path | None:
    """Where the set lies in a folder, the publisher's own files before the copy; None where it does not."""
    return next((path for path in (folder / name for name in (FOLDER, ARCHIVE, JPEGS)) if path.exists()), None)


def read(path: Path, progress: bool = False) -> dict[str, Part]:
    """Training and test part of what :func:`find` found.

    progress  draw a bar on standard error while JPEG files are decoded
    returns   ``train`` and ``test`` → images (cases, 3072), labels (cases,), both uint8
    raises    CortexffError, naming the file, what was found and what was expected
    """
    if path.name == JPEGS:
        return _read_archive(path, lambda archive: _decode(path, archive, progress))
    if path.is_dir():
        return _join(lambda name: _batch(path / name, _bytes_of(path / name)))
    return _read_archive(path, lambda archive: _join(lambda name: _batch(path / name, _member(path, archive, name))))


def _join(batch: Callable[[str], Part]) -> dict[str, Part]:
    parts = {part: [batch(name) for name in names] for part, names in BATCHES.items()}
    return {
        part: tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True)) for part, batches in parts.items()
    }


def _batch(path: Path, content: bytes) -> Part:
    """Images and labels of one of the publisher's files."""
    if not content or len(content) % RECORD:
        raise CortexffError(
            f"{path}: holds {len(content)} bytes, expected a multiple of {RECORD}, a label and an image"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    _check_labels(path, labels)
    planes = records[:, 1:].reshape(-1, SHAPE[2], SHAPE[0] * SHAPE[1])
    return planes.transpose(0, 2, 1).reshape(len(records), -1), labels


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CortexffError(f"{path}: cannot be read ({error.strerror})") from error


def _read_archive(path: Path, read_from: Callable[[tarfile.TarFile], dict[str, Part]]) -> dict[str, Part]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            return read_from(archive)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CortexffError(f"{path}: damaged or cut short ({error}); delete the file and get it anew") from error
    except OSError as error:
        raise CortexffError(f"{path}: cannot be read ({error.strerror or error})") from error


def _member(path: Path, archive: tarfile.TarFile, name: str) -> bytes:
    try:
        return archive.extractfile(f"{FOLDER}/{name}").read()
    except KeyError:
        raise CortexffError(f"{path}: has no {FOLDER}/{name}") from None


def _decode(path: Path, archive: tarfile.TarFile, progress: bool) -> dict[str, Part]:
    """Images and labels of the JPEG copy, in the order of their numbers."""
    from PIL import Image, UnidentifiedImageError
    from tqdm import tqdm

    found: dict[str, list[tuple[int, int, np.ndarray]]] = {part: [] for part in BATCHES}
    for member in tqdm(archive, "cifar10", unit=" images", total=60000, disable=not progress, leave=False):
        if not member.isfile():
            continue
        if not (name := JPEG.fullmatch(member.name)):
            raise CortexffError(f"{path}: found {member.name}, expected names such as train/00000_1.jpg")
        part, place, label = name.groups()
        try:
            picture = np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise CortexffError(f"{path}: {member.name} is no JPEG file ({error})") from error
        if picture.shape != SHAPE:
            raise CortexffError(f"{path}: {member.name} has shape {picture.shape}, expected {SHAPE}")
        found[part].append((int(place), int(label), picture.reshape(-1)))
    archive.fileobj.read()  # raises where the archive is cut short, which its members alone do not show
    parts = {}
    for part, images in found.items():
        if sorted(place for place, *_ in images) != list(range(len(images))) or not images:
            raise CortexffError(f"{path}: has {len(images)} images {part}/*.jpg, expected numbers from 00000 on")
        _, labels, pictures = zip(*sorted(images, key=lambda image: image[0]), strict=True)
        parts[part] = (np.stack(pictures), np.array(labels, np.uint8))
    return parts


def _check_labels(path: Path, labels: np.ndarray) -> None:
    if (labels > 9).any():
        raise CortexffError(f"{path}: holds the label {labels.max()}, expected labels from 0 to 9")
