"""Image sets with labels: the 8x8 digits that scikit-learn carries, MNIST, Fashion-MNIST and CIFAR-10.

``load(name)`` gives arrays, ``hold_out`` sets validation cases apart and ``centre`` takes the mean image off. MNIST and
Fashion-MNIST are read in their publishers' own layout from ``$CORTEXFF_DATA`` (default: the user's cache folder); what
is missing is fetched there.
"""

from __future__ import annotations

import dataclasses
import difflib
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cortexff.errors import CortexffError
from cortexff.stimuli import cifar

ADDRESSES = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
}
CHECKSUMS = {  # SHA-256, unless another kind is named
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    "cifar10": {cifar.ARCHIVE: "md5:c32a1d4ab5d03f1284b67883e8d87530"},
}
DIGITS_TRAINING_CASES = 1400  # of 1797; the other 397 are the test set
DIGITS_PERMUTATION_SEED = 1797  # fixed for good: every run of the digits has the same test set


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, already split.

    name      the name that ``load`` knows them by
    shape     (rows, columns) of one image, or (rows, columns, colours)
    *_images  (cases, pixels) float32; a row is one image in C order (row, column, colour). As loaded between 0
              (background) and 1
    *_labels  (cases,) int64 from 0 to ``classes - 1``
    source    the package, or the name of the folder or file, that they were read from
    The validation pair is empty until ``hold_out`` fills it.
    """

    name: str
    shape: tuple[int, ...]
    training_images: np.ndarray
    training_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    classes: int = 10
    source: str = ""

    @property
    def split(self) -> str:
        """What tells this split into training and validation images from others of the same set."""
        labels = [np.ascontiguousarray(part) for part in (self.training_labels, self.validation_labels)]
        return hashlib.sha256(b"|".join(part.tobytes() for part in labels)).hexdigest()[:12]


def load(name: str, progress: bool = False) -> Images:
    """The image set of that name: ``digits``, ``mnist``, ``fashion_mnist`` or ``cifar10``.

    progress  draw a bar on standard error while a missing file is fetched
    raises    CortexffError: an unknown name, a file that cannot be fetched, or a file that is not what it should be
    """
    if name not in LOADERS:
        close = difflib.get_close_matches(name, LOADERS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise CortexffError(f"no image set named '{name}'; {hint}known image sets: {', '.join(sorted(LOADERS))}")
    return LOADERS[name](name, progress)


def hold_out(images: Images, validation: int) -> Images:
    """The same images with ``validation`` of the training cases, drawn at random, as the validation pair.

    The test set stays untouched, so that settings can be chosen without reading it. The draw is the same every time,
    and a larger one holds the smaller. It is at random because the order of a set may mean something: MNIST's training
    images alternate between two groups of writers, one of them harder to read, and its last ones are the easiest.
    raises  CortexffError unless 0 <= validation < number of training cases
    """
    cases = len(images.training_labels)
    if not 0 <= validation < cases:
        raise CortexffError(
            f"{images.name}: cannot hold out {validation} validation cases of {cases} training cases;"
            f" give a number from 0 to {cases - 1}"
        )
    if not validation:  # without a copy of them all
        return images
    held = np.zeros(cases, dtype=bool)
    held[np.random.default_rng(0).permutation(cases)[:validation]] = True
    return dataclasses.replace(
        images,
        training_images=images.training_images[~held],
        training_labels=images.training_labels[~held],
        validation_images=images.training_images[held],
        validation_labels=images.training_labels[held],
    )


def centre(images: Images) -> Images:
    """The same images, each pixel without its mean over the training images: what they have in common tells nothing.

    A field of many pixels that are never below zero is driven by its mean brightness above all, and the length that it
    is normalized to (§2.1) is mostly that.
    """
    mean = images.training_images.mean(0, dtype=np.float64).astype(np.float32)
    parts = ("training_images", "validation_images", "test_images")
    return dataclasses.replace(images, **{part: getattr(images, part) - mean for part in parts})


def read_idx(path: str | Path) -> np.ndarray:
    """The array of unsigned bytes in an idx file, gzipped or not.

    The format: two zero bytes, the type (8 = unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit number, then the values in C order.
    raises  CortexffError, naming the file, what was found and what was expected
    """
    try:
        content = Path(path).read_bytes()
        # By content, not by name: some browsers unpack a download and leave the .gz in its name.
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CortexffError(f"{path}: damaged or cut short ({error}); delete the file and get it anew") from error
    except OSError as error:
        raise CortexffError(f"{path}: cannot be read ({error.strerror})") from error

    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise CortexffError(
            f"{path}: not an idx file of unsigned bytes: it starts with '{content[:4].hex(' ')}', expected '00 00 08'"
            " and the number of dimensions"
        )
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise CortexffError(f"{path}: its idx header ends after {len(content)} bytes, expected {header}")
    shape = tuple(int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4))
    values = np.frombuffer(content, dtype=np.uint8, offset=header)
    expected = int(np.prod(shape, dtype=object))  # Python's own integers: a damaged header must not overflow
    if values.size != expected:
        raise CortexffError(
            f"{path}: holds {values.size} values, expected {expected} for the shape {shape} in its header"
        )
    return values.reshape(shape)


def _load_digits(name: str, progress: bool) -> Images:
    """scikit-learn's 1797 digits of 8x8 pixels, in 17 grey levels; nothing is fetched.

    Their order goes by writer, so the last ones would be other hands than the first: one fixed permutation comes
    before the split into 1400 training and 397 test cases.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(DIGITS_PERMUTATION_SEED).permutation(len(labels))
    images = (images[order] / 16).astype(np.float32)
    labels = labels[order].astype(np.int64)
    split = DIGITS_TRAINING_CASES
    return _unheld(name, (8, 8), (images[:split], labels[:split]), (images[split:], labels[split:]), "scikit-learn")


def _load_idx(name: str, progress: bool) -> Images:
    """MNIST or a set in the same layout: four idx files in one folder."""
    folder = data_folder() / name.replace("_", "-")
    training_shape, *training = _read_pair(name, folder, "train", progress)
    test_shape, *test = _read_pair(name, folder, "t10k", progress)
    if training_shape != test_shape:
        raise CortexffError(f"{folder}: its training images have shape {training_shape}, its test images {test_shape}")
    return _unheld(name, training_shape, tuple(training), tuple(test), folder.name)


def _load_cifar10(name: str, progress: bool) -> Images:
    """CIFAR-10, from the publisher's files or a copy in JPEG files."""
    folder = data_folder() / "cifar-10"
    path = cifar.find(folder) or find_or_fetch(name, folder / cifar.ARCHIVE, ADDRESSES[name], CHECKSUMS[name], progress)
    parts = cifar.read(path, progress)
    pairs = [((images / np.float32(255)), labels.astype(np.int64)) for images, labels in parts.values()]
    return _unheld(name, cifar.SHAPE, *pairs, path.name)


LOADERS: dict[str, Callable[[str, bool], Images]] = {
    "digits": _load_digits,
    "mnist": _load_idx,
    "fashion_mnist": _load_idx,
    "cifar10": _load_cifar10,
}


def _unheld(name: str, shape: tuple[int, ...], training: tuple, test: tuple, source: str) -> Images:
    """Images from an (images, labels) pair for training and one for test, with an empty validation pair."""
    nothing = {"validation_images": training[0][:0], "validation_labels": training[1][:0]}
    return Images(name, shape, *training, *test, **nothing, source=source)


def _read_pair(name: str, folder: Path, part: str, progress: bool) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Shape of an image, images and labels of one part, ``train`` or ``t10k``."""
    images_path, labels_path = (
        find_or_fetch(name, folder / f"{part}-{kind}-ubyte.gz", ADDRESSES[name], CHECKSUMS[name], progress)
        for kind in ("images-idx3", "labels-idx1")
    )
    images, labels = read_idx(images_path), read_idx(labels_path)
    for path, array, dimensions in ((images_path, images, 3), (labels_path, labels, 1)):
        if array.ndim != dimensions:
            raise CortexffError(
                f"{path}: magic number {0x800 + array.ndim} ({array.ndim} dimensions),"
                f" expected {0x800 + dimensions} ({dimensions})"
            )
    if len(images) != len(labels):
        raise CortexffError(f"{labels_path}: holds {len(labels)} labels, expected {len(images)} as in {images_path}")
    if (labels > 9).any():
        raise CortexffError(f"{labels_path}: holds the label {labels.max()}, expected labels from 0 to 9")
    cases, rows, columns = images.shape
    pixels = images.reshape(cases, rows * columns).astype(np.float32)
    pixels /= 255
    return (rows, columns), pixels, labels.astype(np.int64)


def data_folder() -> Path:
    """Where data sets lie: ``$CORTEXFF_DATA``, which must be there, or the user's cache folder."""
    if given := os.environ.get("CORTEXFF_DATA"):
        if not os.path.isdir(given):
            raise CortexffError(f"CORTEXFF_DATA is {given}, but there is no such folder: make it, or name another")
        return Path(given)
    import pooch

    return pooch.os_cache("cortexff")


def find_or_fetch(name: str, path: Path, address: str, checksums: dict[str, str], progress: bool) -> Path:
    """Path of one of the publisher's files, with or without its ``.gz``; fetched first where there is neither.

    name     the set it belongs to, for the error
    path     where it should lie
    address  of the folder it is fetched from
    checksums  of each file in that folder
    raises   CortexffError: it cannot be fetched, or it is another file than expected
    """
    folder, file = path.parent, path.name
    for found in (path, folder / file.removesuffix(".gz")):
        if os.path.isfile(found):  # unlike Path.is_file, no exception from a folder that may not be entered
            return found

    import pooch
    from requests import RequestException

    pooch.get_logger().setLevel("CRITICAL")  # the bar and our own error say all there is to say
    store = pooch.create(folder, base_url=address, registry=checksums, retry_if_failed=1)
    missing = f"{name}: {file} is not in {folder}"
    advice = f"set CORTEXFF_DATA to a folder that has {folder.name}/{file}"
    try:
        return Path(store.fetch(file, downloader=pooch.HTTPDownloader(progressbar=progress, timeout=10)))
    except RequestException as error:
        reason = f"could not be fetched from {store.get_url(file)} ({type(error).__name__})"
        raise CortexffError(f"{missing} and {reason}: check the network, or {advice}") from error
    except ValueError as error:  # pooch's answer to a wrong checksum; it keeps nothing
        reason = f"what {store.get_url(file)} sent is not the publisher's file (its checksum differs)"
        raise CortexffError(f"{missing}, and {reason}: check the network, or {advice}") from error
    except OSError as error:
        reason = f"that folder cannot be written ({type(error).__name__})"
        raise CortexffError(f"{missing}, and {reason}: make it writable, or {advice}") from error
