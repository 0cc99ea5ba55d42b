"""Protocols that need steps of their own: one file each, which a protocol names by its key ``experiment``.

Such a module has a ``Protocol``, the schema of its settings, and an ``Experiment`` that :mod:`.course` carries out.
"""

from __future__ import annotations

import importlib
from types import ModuleType

EXPERIMENTS = {"next_character": "cortexff.experiments.next_character"}


def module(name: str) -> ModuleType:
    """The module of an experiment, imported when it is first needed."""
    return importlib.import_module(EXPERIMENTS[name])
