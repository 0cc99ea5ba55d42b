"""The runs kept under ``results/paper``, beside the paper's figures: as text, as JSON, and in the README.

``python -m cortexff.protocol paper`` prints them; ``python -m cortexff.protocol.paper README.md`` writes them, and the
benchmark kept beside them, between the README's marks, so that no number there is typed by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

import numpy as np

from cortexff.benchmark import table as benchmark
from cortexff.errors import CortexffError
from cortexff.log import open_file
from cortexff.protocol.table import PERCENT, Row, cell, label

FOLDER = Path("results") / "paper"
README_METRICS = ("perplexity_test", "perplexity_training", "fp_neg", "fp_noise", "err_goodness", "dprime", "criterion")


@dataclass(frozen=True)
class KeptRun:
    """One results file and its closing table."""

    path: Path
    rows: list[Row]
    machine: str
    date: str
    minutes: float


def kept_runs(folder: Path = FOLDER) -> list[KeptRun]:
    """Every finished run in a folder, in the order of the paper's sections."""
    runs = []
    for path in sorted(folder.glob("*.h5")):
        with open_file(path) as file:
            if "table" not in file:
                raise CortexffError(f"{path} has no closing table: was the run interrupted?")
            columns = {field.name: file["table"][field.name][:].tolist() for field in fields(Row)}
            texts = {
                name: [v.decode() if isinstance(v, bytes) else v for v in values] for name, values in columns.items()
            }
            rows = [Row(**dict(zip(texts, values, strict=True))) for values in zip(*texts.values(), strict=True)]
            started, finished = (datetime.fromisoformat(file.attrs[name]) for name in ("started", "finished"))
            minutes = (finished - started).total_seconds() / 60
            runs.append(KeptRun(path, rows, file.attrs["machine"], started.date().isoformat(), minutes))
    return sorted(runs, key=lambda run: (run.rows[0].section, run.path.name))


def markdown(runs: Sequence[KeptRun]) -> str:
    """The runs as Markdown: figures that the paper gives, then comparisons between conditions."""
    lines = ["| section | quantity | paper | ours | subjects | run | machine, date |", "|---|---|---|---|---|---|---|"]
    for run in runs:
        for row in run.rows:
            if not np.isnan(row.paper):
                where = f"`{row.protocol} --preset {row.preset}`, {run.minutes:.0f} min"
                cells = (
                    row.section,
                    row.quantity,
                    f"{row.paper:g}",
                    cell(row),
                    row.subjects,
                    where,
                    f"{run.machine}, {run.date}",
                )
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    for run in runs:
        compared = [row for row in run.rows if "−" in row.condition]
        if not compared:
            continue
        conditions = list(dict.fromkeys(row.condition for row in run.rows))
        first = run.rows[0]
        lines += ["", f"`{first.protocol}`, preset {first.preset}, {first.subjects} subjects: mean [95 % interval];"]
        lines += [f"{run.minutes:.1f} min on {run.machine}, {run.date}.", ""]
        lines += ["| | " + " | ".join(conditions) + " |", "|---" * (len(conditions) + 1) + "|"]
        for variant in dict.fromkeys(row.variant for row in run.rows):
            for metric in README_METRICS:
                found = {r.condition: r for r in run.rows if (r.variant, r.metric) == (variant, metric)}
                if not found:
                    continue
                unit = ", %" if metric in PERCENT else ""
                lines.append(
                    f"| {variant}: {label(metric)}{unit} | " + " | ".join(cell(found[c]) for c in conditions) + " |"
                )
    return "\n".join(lines)


def text(runs: Sequence[KeptRun]) -> str:
    """The rows that have a figure of the paper beside them, as lines of text."""
    lines = [f"{'§':<6}{'quantity':<44}{'paper':>8}  ours"]
    for run in runs:
        for row in run.rows:
            if not np.isnan(row.paper):
                lines.append(
                    f"{row.section:<6}{row.quantity:<44}{row.paper:>8g}  {cell(row)}  {row.verdict}  ({run.date})"
                )
    return "\n".join(lines)


def update(readme: Path, sections: Mapping[str, str]) -> str:
    """The README's text with each section, by name, between its marks."""
    text = readme.read_text(encoding="utf-8")
    for name, section in sections.items():
        begin, end = (f"<!-- {name}: {mark} -->" for mark in ("begin", "end"))
        before, opened, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not opened or not closed:
            raise CortexffError(f"{readme} lacks the marks {begin} and {end}")
        text = f"{before}{begin}\n{section}\n{end}{after}"
    return text


def sections(root: Path = Path()) -> dict[str, str]:
    """What the README says of the results that a checkout keeps, by the name of its marks."""
    return {"results": markdown(kept_runs(root / FOLDER)), "benchmark": benchmark.markdown(root / benchmark.KEPT)}


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    target.write_text(update(target, sections()), encoding="utf-8")
