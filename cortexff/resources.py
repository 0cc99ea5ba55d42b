"""Where models and protocols are found: a path, the user's own folder, or the package."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from cortexff.errors import CortexffError

Kind = Literal["models", "protocols"]


def _folders(kind: Kind) -> list[Path]:
    """Folders searched, in order: the user's own comes first, so a file of the same name there wins."""
    package = Path(__file__).parent
    # A wheel carries the files inside the package; in a checkout they lie beside it.
    shipped = package / kind if (package / kind).is_dir() else package.parent / kind
    return [Path.cwd() / kind, shipped]


PREREGISTRATION = ".prereg"  # ends the name of the file beside a protocol that says what was predicted of it


def names(kind: Kind) -> list[str]:
    """Every name that ``find`` accepts without a path, sorted."""
    files = {file.stem for folder in _folders(kind) for file in folder.glob("*.yaml")}
    return sorted(name for name in files if not name.endswith(PREREGISTRATION))


def find(kind: Kind, name_or_path: str | Path) -> Path:
    """The YAML file of a model or protocol.

    name_or_path  a name (``digits_recurrent``) or a path (anything that ends in ``.yaml`` or has a folder in it)
    raises        CortexffError, listing the known names or the missing path
    """
    given = Path(name_or_path)
    if given.suffix in (".yaml", ".yml", ".json") or len(given.parts) > 1:
        if given.is_file():
            return given
        raise CortexffError(
            f"no file {given}: give a path to a YAML file, or one of the {kind}: {', '.join(names(kind))}"
        )
    for folder in _folders(kind):
        if (file := folder / f"{given}.yaml").is_file():
            return file
    close = difflib.get_close_matches(str(given), names(kind), n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise CortexffError(f"no {kind[:-1]} named '{given}'; {hint}known {kind}: {', '.join(names(kind))}")
