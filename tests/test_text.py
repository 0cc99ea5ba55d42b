"""Strings of fables: the alphabet, which stretches are taken, and what is said about a wrong file."""

import os
from pathlib import Path

import numpy as np
import pytest

from cortexff.errors import CortexffError
from cortexff.stimuli import text as texts
from cortexff.stimuli.text import ALPHABET, as_symbols, fables, letters_only, load, strings

CLOSED_PORT = "http://127.0.0.1:9/"
TWO_FABLES = """A preface.

THE FOX


A Fox saw
some Grapes.

    Sour is sour.




THE HEN, HER "EGG" AND I


A Hen. NOT A TITLE
IN THE MIDDLE
of a Hen.
"""


def as_text(symbols: np.ndarray) -> str:
    return "".join(ALPHABET[symbol] for symbol in symbols)


def random_text(seed: int, length: int = 300) -> str:
    """Letters of either case, white space, punctuation and what other languages write with."""
    drawn = np.random.default_rng(seed).integers(0, 60, length)
    return "".join((ALPHABET + ALPHABET[:26].upper() + "\n\t-É")[number] for number in drawn)


def random_fables(seed: int, count: int = 20) -> list[str]:
    """Fables of 0 to 60 symbols that never repeat: no two stretches are alike by chance."""
    random = np.random.default_rng(seed)
    return [as_text(random.integers(0, 26, random.integers(0, 61))) for _ in range(count)]


def written(told: list[str]) -> str:
    """Fables in the layout of aesop.txt."""
    return "\n\n\n\n".join(f"FABLE {number}\n\n\n{fable}\n" for number, fable in enumerate(told))


@pytest.fixture
def aesop(tmp_path, monkeypatch):
    """The folder of Aesop's fables, empty, with no publisher to be reached."""
    monkeypatch.setenv("CORTEXFF_DATA", str(tmp_path))
    monkeypatch.setattr(texts, "ADDRESS", CLOSED_PORT)
    (tmp_path / "aesop").mkdir()
    return tmp_path / "aesop"


def error_of(call, *arguments) -> str:
    """The message of the CortexffError that the call must raise; one line."""
    with pytest.raises(CortexffError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# The alphabet


def test_the_alphabet_has_30_symbols():
    """§4.1: the lower case letters, space, comma, semi-colon, and full stop."""
    assert len(set(ALPHABET)) == len(ALPHABET) == 30
    assert ALPHABET[:26].isalpha() and ALPHABET.islower()
    assert ALPHABET[26:] == " ,;."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("THE Fox, the Hen; the End.", "the fox, the hen; the end."),
        ("the next\nline \r\n\t is", "the next line is"),
        ("\"Who?\" it's 7 o'clock!", "who its  oclock"),
        ("Charcoal-burner", "charcoalburner"),
        ("Æsop's élan", "sops lan"),
        ("", ""),
    ],
)
def test_letters_only(text, expected):
    assert letters_only(text) == expected


@pytest.mark.parametrize("seed", range(20))
def test_letters_only_gives_the_alphabet_only(seed):
    text = random_text(seed)
    kept = letters_only(text)
    assert set(kept) <= set(ALPHABET)
    assert kept.replace(" ", "") == "".join(c for c in text.lower() if c in ALPHABET and c != " ")


@pytest.mark.parametrize("seed", range(20))
def test_symbols_read_back_what_was_written(seed):
    text = letters_only(random_text(seed))
    symbols = as_symbols(text)
    assert (symbols.dtype, symbols.shape) == (np.uint8, (len(text),))
    assert as_text(symbols) == text


def test_what_is_no_symbol_is_refused():
    assert "text has 'F', expected only 'abc" in error_of(as_symbols, "the Fox")


# Fables


def test_fables_come_without_titles_and_with_morals():
    fox, hen = fables(TWO_FABLES)
    assert letters_only(fox) == "a fox saw some grapes. sour is sour."
    assert letters_only(hen) == "a hen. not a title in the middle of a hen."
    assert fables(TWO_FABLES.replace("\n", "\r\n")) == fables(TWO_FABLES)


def test_a_text_without_titles_has_no_fables():
    assert fables("") == fables("Once upon a time.\n") == fables("A TITLE?\nNo.\n") == []


# Strings


def test_one_string_a_fable_where_that_is_enough():
    told = ["aaaabbbb", "cc", "DDDD-eee", "ffff", "gggghhhhii", "jjjj"]
    training, held_out = strings(told, 2, 4, 3)
    assert [as_text(string) for string in training] == ["aaaa", "dddd"]
    assert [as_text(string) for string in held_out] == ["ffff", "gggg", "jjjj"]


def test_later_stretches_where_one_a_fable_is_too_few():
    told = ["aaaabbbbcccc", "ddddeeeeffff", "gggghhhhiiii", "jjjjkkkkll"]
    training, held_out = strings(told, 2, 4, 3)
    assert [as_text(string) for string in training] == ["aaaa", "dddd"]
    assert [as_text(string) for string in held_out] == ["gggg", "jjjj", "hhhh"]
    training, held_out = strings(told, 3, 4, 4)  # two of each fable, since one of each would leave three to hold out
    assert [as_text(string) for string in training] == ["aaaa", "bbbb", "dddd"]
    assert [as_text(string) for string in held_out] == ["gggg", "jjjj", "hhhh", "kkkk"]


@pytest.mark.parametrize("seed", range(30))
def test_held_out_strings_share_no_text_with_the_others(seed):
    told = random_fables(seed)
    random = np.random.default_rng(seed)
    count, length, held_out = int(random.integers(1, 25)), int(random.integers(8, 20)), int(random.integers(0, 10))
    try:
        training, test = strings(told, count, length, held_out)
    except CortexffError as error:
        assert f"too few for {count} strings and {held_out} held out" in str(error)
        return
    assert (training.shape, test.shape) == ((count, length), (held_out, length))
    assert training.dtype == test.dtype == np.uint8
    again = strings(told, count, length, held_out)
    np.testing.assert_array_equal(training, again[0])
    np.testing.assert_array_equal(test, again[1])
    found = [[{n for n, fable in enumerate(told) if as_text(s) in fable} for s in part] for part in (training, test)]
    assert all(len(owners) == 1 for part in found for owners in part)
    assert not set().union(*found[0]) & set().union(*found[1])
    assert len({as_text(string) for string in (*training, *test)}) == count + held_out  # none twice


def test_too_few_fables_for_the_strings():
    message = error_of(strings, ["aaaabbbb", "cccc"], 3, 4, 1)
    assert "2 fables have 3 stretches of 4 symbols, too few for 3 strings and 1 held out" in message
    assert "0 fables have 0 stretches" in error_of(strings, [], 1, 100)
    assert "strings: length is 0; give 1 or more" in error_of(strings, ["a"], 1, 0)
    assert "strings: held_out is -1; give 0 or more" in error_of(strings, ["a"], 1, 1, -1)


def test_no_strings_are_strings_too():
    assert [part.shape for part in strings([], 0, 100)] == [(0, 100), (0, 100)]


# The set that comes with the package


def test_the_fables_of_the_package():
    found = load("fables")
    assert (found.name, found.training.shape, found.test.shape) == ("fables", (24, 100), (12, 100))
    assert found.training.dtype == found.test.dtype == np.uint8
    assert as_text(found.training[0]).startswith("a heron found a broken mirror on the river bank, and took")
    assert set(np.unique(found.training)) == set(range(30))  # no symbol is tested that was never seen
    told = fables(Path(texts.__file__).with_name("fables.txt").read_text())
    assert len(told) == 12
    assert all(250 <= len(fable) <= 450 for fable in told)
    np.testing.assert_array_equal(found.test, load("fables").test)


def test_unknown_name_lists_the_known_ones():
    message = error_of(load, "aesops")
    assert "no strings named 'aesops'; did you mean 'aesop'? known strings: aesop, fables" in message


# Aesop's


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_aesop_is_read_from_the_fables_or_from_the_whole_book(aesop, line_end):
    random = np.random.default_rng(0)
    body = written([as_text(random.integers(0, 26, 120)) for _ in range(284)])
    front = "AESOP'S FABLES\n\n\nCONTENTS\n\nFABLE 0\n\n\n\n\nAESOP'S FABLES\n\n\n\n\n"
    book = f"{front}{body}\n\n\nILLUSTRATIONS\n\n\nEND\n\nx"
    (aesop / "pg11339.txt").write_bytes(book.replace("\n", line_end).encode())
    from_book = load("aesop")
    (aesop / "pg11339.txt").unlink()
    (aesop / "aesop.txt").write_bytes(body.replace("\n", line_end).encode())
    from_fables = load("aesop")
    assert (from_book.training.shape, from_book.test.shape) == ((248, 100), (36, 100))
    np.testing.assert_array_equal(from_book.training, from_fables.training)
    np.testing.assert_array_equal(from_book.test, from_fables.test)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TWO_FABLES.encode(), "aesop.txt: holds 2 fables, expected 284"),
        (written(["too short"] * 284).encode(), "aesop.txt: 284 fables have 0 stretches of 100 symbols, too few"),
        (b"THE FOX\n\n\xff", "aesop.txt: not a text file in UTF-8: byte 9 is 0xff"),
    ],
)
def test_another_file_in_the_place_of_aesop(aesop, content, expected):
    (aesop / "aesop.txt").write_bytes(content)
    assert f"{aesop / expected}" in error_of(load, "aesop")


def test_without_a_network_one_line_says_what_to_do(aesop, capfd):
    message = error_of(load, "aesop")
    assert f"aesop: pg11339.txt is not in {aesop}" in message
    assert CLOSED_PORT in message
    assert "set CORTEXFF_DATA to a folder that has aesop/pg11339.txt" in message
    assert capfd.readouterr() == ("", "")  # no word from pooch


def test_the_published_fables(tmp_path, monkeypatch):
    folder = Path(os.environ.get("CORTEXFF_DATA", "")) / "aesop"
    if not os.environ.get("CORTEXFF_DATA") or not (folder / "aesop.txt").is_file():
        pytest.skip("CORTEXFF_DATA has no aesop/aesop.txt")
    told = fables((folder / "aesop.txt").read_text())
    assert len(told) == 284
    assert min(len(letters_only(fable)) for fable in told) == 221  # so one string a fable is enough
    found = load("aesop")
    assert (found.training.shape, found.test.shape) == ((248, 100), (36, 100))
    assert set(np.unique(found.training)) == set(range(30))
    assert as_text(found.training[0]) == letters_only(told[0])[:100]
    assert as_text(found.training[0]).startswith("a hungry fox saw some fine bunches of grapes hanging from a vine")
    assert as_text(found.training[247]) == letters_only(told[247])[:100]
    assert as_text(found.test[35]) == letters_only(told[283])[:100]
    assert found.training[:, 10:].size == 22_320  # figure 5: predictions in an update

    if (folder / "pg11339.txt").is_file():
        (tmp_path / "aesop").mkdir()
        (tmp_path / "aesop" / "pg11339.txt").write_bytes((folder / "pg11339.txt").read_bytes())
        monkeypatch.setenv("CORTEXFF_DATA", str(tmp_path))
        from_book = load("aesop")
        np.testing.assert_array_equal(from_book.training, found.training)
        np.testing.assert_array_equal(from_book.test, found.test)
