"""The figures of a report on sleep studies, from their populations alone.

Each shows populations side by side, at most ``study.ABREAST``, and one all of them; it is left out where none has what
it shows. They are drawn and saved within ``rc_context(STYLE)``, as sheets of single runs are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cortexff.report.figures.behaviour import content, encoding, reaction_times
from cortexff.report.figures.deprivation import dose_response, physiology, survival
from cortexff.report.figures.lives import controls, everyone, local_sleep, raster
from cortexff.report.figures.sleep import chronic, contents, process_s, recovery
from cortexff.report.study import Population

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVERYONE = "populations"  # the figure with a row for each, however many
# File stem → title, and what draws it: None where the populations lack the data.
FIGURES: dict[str, tuple[str, Callable[[list[Population]], Figure | None]]] = {
    "protocol": ("How the subjects lived from the end of development on", raster),
    "dose_response": ("What grows with the time awake, and by which law", dose_response),
    "chronic": ("Too little sleep, cycle after cycle", chronic),
    "process_s": ("Sleep drive through wake and sleep: Process S", process_s),
    "recovery": ("Recovery sleep, and what too much of it does", recovery),
    "reaction_times": ("How fast an image that appears is noticed", reaction_times),
    "physiology": ("Activity, excitability and synapses with the time awake", physiology),
    "local_sleep": ("Sleep of one area alone", local_sleep),
    "content": ("What is hallucinated follows what was seen?", content),
    "sleep_contents": ("What must happen in sleep", contents),
    EVERYONE: ("What deprivation does in every population", everyone),
    "controls": ("Would other lives do as much?", controls),
    "survival": ("How long networks last where wake's learning does not saturate", survival),
    "encoding": ("Learning of new labels after deprivation", encoding),
}
