"""The strings of §4.1: stretches of fables in an alphabet of 30 symbols.

``load(name)`` gives strings to learn from and strings to test on.
Aesop's fables are read from ``$CORTEXFF_DATA/aesop`` (default: the user's cache folder), or fetched there.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from cortexff.errors import CortexffError
from cortexff.stimuli.images import data_folder, find_or_fetch

ALPHABET = "abcdefghijklmnopqrstuvwxyz ,;."  # a symbol's number is its place here
ADDRESS = "https://www.gutenberg.org/cache/epub/11339/"  # V. S. Vernon Jones's translation of 1912
SHA256 = {"pg11339.txt": "655566e8d3f5a977a3836d1635418b006ea4b92283fc6fc96460ac59e0b71c2a"}
AESOP_FABLES = 284
LENGTH = 100  # symbols in a string
CONTEXT = 10  # symbols that a prediction is made from


@dataclass(frozen=True, eq=False)
class Strings:
    """Strings of symbols, already split: no fable gives to both parts.

    name      the name that ``load`` knows them by
    training  (strings, length) uint8, places in ``ALPHABET``
    test      (strings, length) uint8, never learned from
    """

    name: str
    training: np.ndarray
    test: np.ndarray


def load(name: str, progress: bool = False) -> Strings:
    """The strings of that name: ``aesop``, the paper's, or ``fables``, a small set that comes with the package.

    progress  draw a bar on standard error while a missing file is fetched
    raises    CortexffError: an unknown name, a file that cannot be fetched, or a file that is not what it should be
    """
    if name not in LOADERS:
        close = difflib.get_close_matches(name, LOADERS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise CortexffError(f"no strings named '{name}'; {hint}known strings: {', '.join(sorted(LOADERS))}")
    return LOADERS[name](name, progress)


def letters_only(text: str) -> str:
    """The text in lower case and without the characters that are not in ``ALPHABET`` (§4.1)."""
    # The paper deletes what is not in the alphabet. Line breaks would be too, and the last word of a line would grow
    # together with the first of the next: white space becomes one space first.
    text = re.sub(r"\s+", " ", text.lower())
    return "".join(character for character in text if character in ALPHABET)


def fables(text: str) -> list[str]:
    """The fables in a text, in order, without their titles.

    A title is a line all in capitals, set off by blank lines; what stands before the first one is left out. A moral,
    the indented lines after a fable, stays: the paper deletes characters, not sentences.
    """
    lines = ["", *text.splitlines(), ""]
    titles = [
        number
        for number, line in enumerate(lines)
        if line.isupper() and not lines[number - 1].strip() and not lines[number + 1].strip()
    ]
    return ["\n".join(lines[title + 1 : end]).strip() for title, end in pairwise([*titles, len(lines)])]


def strings(fables: Sequence[str], count: int, length: int, held_out: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``count`` strings from the beginnings of fables, and ``held_out`` more from the fables left over.

    A fable gives one string, its first ``length`` symbols, where that is enough; else its first two stretches of that
    length, or three, as few as will do. Fables that are too short are passed over, and no fable gives to both parts.
    returns  (count, length) and (held_out, length), uint8
    raises   CortexffError where the fables are too few or too short
    """
    for argument, value, least in (("count", count, 0), ("length", length, 1), ("held_out", held_out, 0)):
        if value < least:
            raise CortexffError(f"strings: {argument} is {value}; give {least} or more")
    stretches = [_stretches(letters_only(fable), length) for fable in fables]
    longest = max(map(len, stretches), default=0)
    for most in range(1, max(longest, 1) + 1):
        so_far = np.cumsum([0, *(len(fable[:most]) for fable in stretches)])  # strings in the first 0, 1, ... fables
        used = int(np.searchsorted(so_far, count))
        training = [stretch for fable in stretches[:used] for stretch in fable[:most]][:count]
        left = stretches[used:]
        # All beginnings come before any later stretch, so that both parts are alike where there is choice.
        rest = [fable[turn] for turn in range(longest) for fable in left if turn < len(fable)][:held_out]
        if len(training) == count and len(rest) == held_out:
            return tuple(as_symbols("".join(part)).reshape(-1, length) for part in (training, rest))
    raise CortexffError(
        f"{len(stretches)} fables have {sum(map(len, stretches))} stretches of {length} symbols, too few for {count}"
        f" strings and {held_out} held out of other fables: ask for fewer or shorter strings"
    )


def as_symbols(text: str) -> np.ndarray:
    """The numbers of a text's characters, (characters,) uint8."""
    if strange := set(text).difference(ALPHABET):
        raise CortexffError(f"text has {min(strange)!r}, expected only '{ALPHABET}': pass it through letters_only")
    return np.array([ALPHABET.index(character) for character in text], dtype=np.uint8)


def _load_aesop(name: str, progress: bool) -> Strings:
    """The paper's 248 strings, and one of each of the 36 fables left over to test on.

    The paper does not say which 248. One string a fable is the natural reading: all 284 are long enough.
    """
    path = data_folder() / "aesop" / "aesop.txt"
    if os.path.isfile(path):
        told = fables(_read(path))
    else:
        path = find_or_fetch(name, path.with_name("pg11339.txt"), ADDRESS, SHA256, progress)
        # The title page has the same heading, hence the last one; the list of illustrations follows the fables.
        told = fables(_read(path).rpartition("\nAESOP'S FABLES\n")[2].partition("\nILLUSTRATIONS\n")[0])
    if len(told) != AESOP_FABLES:
        raise CortexffError(f"{path}: holds {len(told)} fables, expected {AESOP_FABLES}; delete it and get it anew")
    return _split(name, path, told, 248, AESOP_FABLES - 248)


def _load_fables(name: str, progress: bool) -> Strings:
    """Three strings of each of twelve fables: those of the first eight to learn from, the others to test on."""
    path = Path(__file__).with_name("fables.txt")
    return _split(name, path, fables(_read(path)), 24, 12)


LOADERS: dict[str, Callable[[str, bool], Strings]] = {"aesop": _load_aesop, "fables": _load_fables}


def _split(name: str, path: Path, told: list[str], training: int, test: int) -> Strings:
    """Strings of ``LENGTH`` symbols from the fables of a file."""
    try:
        return Strings(name, *strings(told, training, LENGTH, test))
    except CortexffError as error:
        raise CortexffError(f"{path}: {error}") from error


def _read(path: Path) -> str:
    """A text file, line ends as they may be."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CortexffError(
            f"{path}: not a text file in UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        ) from error
    except OSError as error:
        raise CortexffError(f"{path}: cannot be read ({error.strerror})") from error


def _stretches(text: str, length: int) -> list[str]:
    """A text cut into pieces of that length; a shorter last one is left out."""
    return [text[at : at + length] for at in range(0, len(text) - length + 1, length)]
