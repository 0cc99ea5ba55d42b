"""The closing table of a run: from the log, the mean of each condition over subjects and the paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from cortexff.analysis.statistics import Interval, mean_interval, paired_difference
from cortexff.log import Log, Variable
from cortexff.protocol.schedule import Protocol

PERCENT = ("err_goodness", "err_softmax", "fp_neg", "fp_noise", "miss")
LABELS = {
    "err_goodness": "error by goodness",
    "err_softmax": "error by softmax",
    "fp_neg": "hallucination rate, wrong labels",
    "fp_noise": "hallucination rate, noise",
    "miss": "miss rate",
    "dprime": "d′",
    "criterion": "criterion",
    "auroc": "AUROC",
    "sleep_drive": "sleep drive E[p(x⁻)]",
    "decision_steps": "steps to decision",
    "rate": "mean rate",
    "active_frac": "active fraction",
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ours, low, high  mean over subjects and its 95 % interval (NaN bounds for one subject)
    paper            the paper's figure, NaN where it gives none
    verdict          what the figures say, in words
    """

    protocol: str
    section: str
    variant: str
    condition: str
    metric: str
    quantity: str
    paper: float
    ours: float
    low: float
    high: float
    subjects: int
    preset: str
    verdict: str


def build(results: Path, protocol: Protocol, name: str, preset: str) -> list[Row]:
    """Every row of the table that the protocol asks for."""
    rows = []
    with h5py.File(results, "r", locking=False) as file:
        for variant in protocol.variants:
            for metric, asked in protocol.table.metrics.items():
                scale = 100.0 if metric in PERCENT else 1.0
                values = {c: scale * _last(file, f"{variant}/{c}", metric) for c in protocol.table.conditions}
                unit = ", %" if metric in PERCENT else ""

                def row(
                    condition: str,
                    found: Interval,
                    verdict: str,
                    paper: float = float("nan"),
                    variant: str = variant,
                    metric: str = metric,
                    unit: str = unit,
                ) -> Row:
                    quantity = f"{LABELS.get(metric, metric)}{unit}, {condition}, {variant}"
                    return Row(
                        name,
                        protocol.section,
                        variant,
                        condition,
                        metric,
                        quantity,
                        paper,
                        found.mean,
                        found.low,
                        found.high,
                        found.n,
                        preset,
                        verdict,
                    )

                paper = asked.paper if asked is not None and asked.paper is not None else float("nan")
                for condition, value in values.items():
                    rows.append(row(condition, mean_interval(value), _against_paper(value.mean(), paper), paper))
                reference = protocol.table.against
                for condition, value in values.items():
                    if reference is not None and condition != reference:
                        difference = paired_difference(value, values[reference])
                        rows.append(
                            row(f"{condition} − {reference}", difference, _direction(value - values[reference]))
                        )
    return rows


def _last(file: h5py.File, group: str, metric: str) -> np.ndarray:
    """A metric at the last probe of a condition, (subjects,); what is measured per area is averaged over areas."""
    value = file[group][metric][-1].astype(float)
    return value.reshape(len(value), -1).mean(-1) if value.ndim > 1 else value


def _direction(differences: np.ndarray) -> str:
    up, down, n = int((differences > 0).sum()), int((differences < 0).sum()), len(differences)
    return f"up in {up} of {n}" if up >= down else f"down in {down} of {n}"


def _against_paper(ours: float, paper: float) -> str:
    if np.isnan(paper):
        return ""
    return "reached" if ours <= paper else f"{ours - paper:.2f} above the paper"


def write(log: Log, rows: Sequence[Row]) -> None:
    """Keep the table in the file itself, under ``/table``."""
    for name, value in asdict(rows[0]).items():
        column = [asdict(row)[name] for row in rows]
        dtype = "str" if isinstance(value, str) else "i8" if isinstance(value, int) else "f8"
        log.write(
            "table",
            name,
            np.array(column, dtype=object if dtype == "str" else None),
            Variable(("row",), "1", name, dtype=dtype),
        )


def render(rows: Sequence[Row]) -> str:
    """The table as text: a block for each variant, a line for each metric, a column for each condition."""
    blocks = []
    for variant in dict.fromkeys(row.variant for row in rows):
        mine = [row for row in rows if row.variant == variant]
        conditions = list(dict.fromkeys(row.condition for row in mine))
        metrics = list(dict.fromkeys(row.metric for row in mine))
        with_paper = any(not np.isnan(row.paper) for row in mine)
        lines = [[f"{variant} ({mine[0].subjects} subjects)", *conditions, *(["paper"] if with_paper else [])]]
        for metric in metrics:
            cells = {row.condition: row for row in mine if row.metric == metric}
            unit = " (%)" if metric in PERCENT else ""
            line = [LABELS.get(metric, metric) + unit, *(_cell(cells[condition]) for condition in conditions)]
            papers = [f"{row.paper:g}" for row in cells.values() if not np.isnan(row.paper)]
            lines.append([*line, *([papers[0] if papers else "–"] if with_paper else [])])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        padded = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        blocks.append("\n".join([padded[0], "-" * len(padded[0]), *padded[1:]]))
    return "\n\n".join(blocks)


def _cell(row: Row) -> str:
    signed = "+" if "−" in row.condition else ""
    digits = 1 if row.metric in PERCENT else 2
    if row.metric.startswith("err"):
        digits = 2
    mean = f"{row.ours:{signed}.{digits}f}"
    bounds = "" if np.isnan(row.low) else f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    count = row.verdict.replace(" in ", " ") if "−" in row.condition else ""
    return f"{mean}{bounds}" + (f" {count}" if count else "")
