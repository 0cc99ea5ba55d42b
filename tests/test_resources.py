"""Where a name leads: a path, the user's own folder, the package's."""

import pytest

from cortexff.errors import CortexffError
from cortexff.resources import find, names


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working folder, such as a user's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text="mine"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_package_is_found_from_any_folder(home):
    file = find("models", "digits_recurrent")
    assert file.is_file()
    assert file.name == "digits_recurrent.yaml"
    assert "digits_recurrent" in names("models")


def test_the_users_own_file_wins(home):
    own = write(home / "models" / "digits_recurrent.yaml")
    assert find("models", "digits_recurrent").samefile(own)


def test_names_are_sorted_and_listed_once(home):
    write(home / "models" / "zebra.yaml")
    write(home / "models" / "digits_recurrent.yaml")
    write(home / "models" / "notes.txt")
    found = names("models")
    assert found == sorted(set(found))
    assert "zebra" in found
    assert "notes" not in found
    assert "zebra" not in names("protocols")


def test_a_path_is_taken_as_it_is(home):
    file = write(home / "elsewhere" / "mine.yaml")
    assert find("models", file) == file
    assert find("models", str(file)) == file
    assert find("models", "elsewhere/mine.yaml").samefile(file)


@pytest.mark.parametrize("missing", ["nowhere.yaml", "some/where.yaml", "models/digits", "nowhere.yml"])
def test_a_missing_path_is_named(home, missing):
    with pytest.raises(CortexffError) as error:
        find("models", missing)
    message = str(error.value)
    assert missing in message
    assert "digits_recurrent" in message
    assert "\n" not in message


def test_a_folder_is_no_file(home):
    (home / "folder.yaml").mkdir()
    with pytest.raises(CortexffError, match=r"folder\.yaml"):
        find("models", "folder.yaml")


@pytest.mark.parametrize("kind", ["models", "protocols"])
def test_an_unknown_name_lists_the_known_ones(home, kind):
    with pytest.raises(CortexffError) as error:
        find(kind, "qqqq")
    message = str(error.value)
    assert f"no {kind[:-1]} named 'qqqq'" in message
    assert "did you mean" not in message
    assert all(name in message for name in names(kind))


def test_a_slip_of_the_pen_is_answered_with_the_nearest_name(home):
    with pytest.raises(CortexffError, match=r"named 'digit_recurrent'; did you mean 'digits_recurrent'\?"):
        find("models", "digit_recurrent")
