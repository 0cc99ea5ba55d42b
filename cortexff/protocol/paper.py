"""The runs kept under ``results/paper``, beside the paper's figures: as text, as JSON, and in the README.

A figure that the paper gives, and a preset asks for, stands in the table also where no run of that preset is kept.

``python -m cortexff.protocol paper`` prints them; ``python -m cortexff.protocol.paper README.md`` writes them, and the
benchmark kept beside them, between the README's marks, so that no number there is typed by hand.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from cortexff.benchmark import table as benchmark
from cortexff.description import parse, read_text
from cortexff.errors import CortexffError
from cortexff.log import open_file
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.table import Row, aligned, cell, is_percent, label, mean_of, quantity, remarks
from cortexff.report import answers
from cortexff.report.words import UNKNOWN, markdown_table
from cortexff.resources import find, names

FOLDER = Path("results") / "paper"
README_METRICS = (
    "perplexity_test",
    "perplexity_training",
    "fp_neg",
    "fp_noise",
    "err_goodness",
    "dprime",
    "dprime_neg",
    "dprime_generated",
    "criterion",
    "goodness_correlation",
    "state_correlation",
    "firing_rate[V1]",
    "firing_rate[V2]",
    "synchrony[V1]",
    "synchrony[V2]",
    "spikes_to_decision",
)


@dataclass(frozen=True)
class KeptRun:
    """One results file and its closing table.

    model    that was run
    images   that were shown, and whether they are copies with losses; none to a net that reads
    minutes  at work; of a run begun by an earlier version at most, for its pauses were not counted
    epochs   passes through the training images while areas learned; 0 where they are not counted in epochs
    """

    path: Path
    rows: list[Row]
    model: str
    images: str
    machine: str
    date: str
    minutes: float
    at_most: bool
    epochs: int

    @property
    def figures(self) -> list[Row]:
        """The rows that have a figure of the paper."""
        return [row for row in self.rows if not np.isnan(row.paper)]

    def time(self, digits: int) -> str:
        return f"{'≤ ' if self.at_most else ''}{self.minutes:.{digits}f} min"


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
            at_most = "seconds" not in file.attrs
            minutes = ((finished - started).total_seconds() if at_most else file.attrs["seconds"]) / 60
            settings = json.loads(file.attrs["settings"])
            images, date = settings.get("stimuli", {}).get("images", ""), started.date().isoformat()
            if "jpeg" in file.attrs.get("images_read_from", ""):
                images += " (JPEG)"
            about = (settings["model"], images, file.attrs["machine"], date, minutes, at_most, _epochs(settings))
            runs.append(KeptRun(path, rows, *about))
    return sorted(runs, key=lambda run: (run.rows[0].section, run.path.name))


def _epochs(settings: Mapping[str, Any]) -> int:
    stages = settings.get("stages", {}).values()
    return sum(stage["epochs"] or 0 for stage in stages if stage["phase"] != "rest")


@dataclass(frozen=True)
class Wanted:
    """A figure of the paper that a preset asks for."""

    section: str
    protocol: str
    preset: str
    variant: str
    condition: str
    metric: str
    model: str
    images: str
    paper: float


WHAT = attrgetter("protocol", "preset", "variant", "condition", "metric")  # that a figure is of, kept or wanted


@functools.cache  # to read every preset takes seconds
def asked() -> tuple[Wanted, ...]:
    """Every figure of the paper that the presets of all protocols ask for."""
    found = []
    for name in names("protocols"):
        path = find("protocols", name)
        for preset in parse(read_text(path), str(path)).get("presets") or {}:
            protocol = load_protocol(name, preset)
            stimuli = getattr(protocol, "stimuli", None)  # a net that reads has none
            about = (protocol.model, stimuli.images if stimuli else "")
            rows = itertools.product(protocol.variants, protocol.table.metrics.items(), protocol.table.conditions)
            for variant, (metric, row), condition in rows:
                figure = row.figure(variant, condition) if row is not None else None
                if figure is not None:
                    found.append(Wanted(protocol.section, name, preset, variant, condition, metric, *about, figure))
    return tuple(found)


def wanted(runs: Sequence[KeptRun]) -> list[Wanted]:
    """What is asked for, and no run of it is kept."""
    kept = {WHAT(row) for run in runs for row in run.figures}
    return [one for one in asked() if WHAT(one) not in kept]


def figures(runs: Sequence[KeptRun]) -> list[list[str]]:
    """The whole table, in the order of the paper's sections: a heading, then the paper's figures and ours."""
    lines = []
    for run in runs:
        for row in run.figures:
            epochs = str(run.epochs or "–")
            about = [str(row.subjects), f"{row.protocol} --preset {row.preset}", epochs, run.time(0)]
            ours = [f"{row.paper:g}", cell(row), f"{row.ours - row.paper:+.2f}".replace("-", "−")]
            lines.append([row.section, row.quantity, run.model, run.images, *ours, *about, run.machine, run.date])
    for one in wanted(runs):
        missing = ["not run yet", "", "", f"{one.protocol} --preset {one.preset}", "", "", "", ""]
        what = quantity(one.metric, one.condition, one.variant)
        lines.append([one.section, what, one.model, one.images, f"{one.paper:g}", *missing])
    heading = ["§", "quantity", "model", "images", "paper", "ours", "ours − paper", "subjects", "run", "epochs", "time"]
    heading += ["machine", "date"]
    return [heading, *sorted(lines, key=lambda line: line[0])]


def markdown(runs: Sequence[KeptRun]) -> str:
    """The runs as Markdown: the paper's figures and ours, then what else the runs found."""
    heading, *rows = figures(runs)
    command = heading.index("run")
    lines = [markdown_table(heading, [[*row[:command], f"`{row[command]}`", *row[command + 1 :]] for row in rows])]
    for run in runs:
        compared = [row for row in run.rows if "−" in row.condition]
        if run.figures and not compared:
            continue
        first = run.rows[0]
        lines += ["", f"`{first.protocol}`, preset {first.preset}, {mean_of(first.subjects)};"]
        lines += [f"{run.time(1)} on {run.machine}, {run.date}.", ""]
        lines.append(_comparison(run) if compared else _variants(run))
        if said := remarks([row for row in run.rows if row.metric in README_METRICS]):
            lines += ["", *(f"- {remark}" for remark in said)]
    return "\n".join(lines)


def _comparison(run: KeptRun) -> str:
    """A column for each condition and difference, a row for each variant and metric."""
    conditions = list(dict.fromkeys(row.condition for row in run.rows))
    of = {(row.variant, row.metric, row.condition): row for row in run.rows}
    metrics = dict.fromkeys(row.metric for row in run.rows)
    shown = [metric for metric in metrics if metric in README_METRICS] or metrics
    lines = []
    for variant, metric in itertools.product(dict.fromkeys(row.variant for row in run.rows), shown):
        found = [of.get((variant, metric, condition)) for condition in conditions]
        cells = [UNKNOWN if row is None else cell(row) for row in found]
        lines.append([f"{variant}: {_named(metric)}", *cells])
    return markdown_table(["", *conditions], lines)


def _variants(run: KeptRun) -> str:
    """A column for each variant, and condition where there are several; a row for each metric."""
    columns = list(dict.fromkeys((row.variant, row.condition) for row in run.rows))
    several = len({condition for _, condition in columns}) > 1
    heading = [f"{variant}, {condition}" if several else variant for variant, condition in columns]
    lines = []
    for metric in dict.fromkeys(row.metric for row in run.rows):
        of = {(row.variant, row.condition): row for row in run.rows if row.metric == metric}
        lines.append([_named(metric), *(cell(of[column]) for column in columns)])
    return markdown_table(["", *heading], lines)


def _named(metric: str) -> str:
    return label(metric) + (", %" if is_percent(metric) else "")


def text(runs: Sequence[KeptRun]) -> str:
    """The paper's figures and ours as lines of text."""
    return aligned(figures(runs))


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
    benchmarks = sorted((root / "results").glob(benchmark.KEPT))
    return {
        "sleep": answers.markdown(root / answers.FOLDER),
        "results": markdown(kept_runs(root / FOLDER)),
        "benchmark": benchmark.markdown(benchmarks),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    target.write_text(update(target, sections()), encoding="utf-8")
