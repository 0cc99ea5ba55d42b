"""The paper's two open questions about sleep (section 9), each answered in five sentences from kept results files.

The sentences follow the numbers; tables below them have the intervals.
"""

from __future__ import annotations

from pathlib import Path

from cortexff.report.answer_deprivation import across, down, measured, of_deprivation
from cortexff.report.answer_separation import of_separation
from cortexff.report.study import read

FOLDER = Path("results") / "sleep"
# The main run, and that of a net with both signs of goodness; the others are in the report.
DEPRIVATION = ("sleep_deprivation_full.h5", "sleep_deprivation_full_mixed.h5")
FEEDFORWARD, FACTORS = "sleep_deprivation_full_feedforward.h5", "sleep_deprivation_full_factors.h5"
HYBRIDS = "sleep_without_labels_full.h5"
SEPARATION, WIDER = "separated_phases_default.h5", "separated_phases_full.h5"


def markdown(folder: Path = FOLDER) -> str:
    """Both questions with their answers, from the results files of a folder; empty where there are none."""
    parts = []
    if (path := folder / SEPARATION).is_file():
        wider = folder / WIDER
        parts.append("**Can the positive and negative passes be very widely separated in time?**")
        parts.append(" ".join(of_separation(path, wider if wider.is_file() else None)))
    if files := [folder / name for name in DEPRIVATION if (folder / name).is_file()]:
        parts.append(
            "**If the negative phase is eliminated for a while, do the effects mimic those of sleep deprivation?**"
        )
        # Each read by itself, so that populations go by their variant's name.
        others = ([path] if (path := folder / name).is_file() else [] for name in (FEEDFORWARD, FACTORS, HYBRIDS))
        studies, unchanged, changed, hybrids = (
            measured([one for path in paths for one in read([path])]) for paths in (files, *others)
        )
        changed |= {f"{name}_without_labels": one for name, one in hybrids.items()}
        parts.append(" ".join(of_deprivation(studies, changed)))
        parts.append("What deprivation changes, within subjects [95 % interval]:")
        parts.append(across(studies))
        if changed:
            parts.append("The same in feed-forward nets, and with one factor changed in them:")
            parts.append(down(unchanged | changed))
    return "\n\n".join(parts)
