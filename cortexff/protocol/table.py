"""The closing table of a run: from the log, the mean of each condition over subjects and the paired differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from cortexff.analysis.statistics import Interval, mean_interval, mean_of_known, paired_difference, sign_flip_p
from cortexff.log import Log, Variable, open_file
from cortexff.protocol.schedule import Common, split_metric

PERCENT = (
    "err_goodness",
    "err_hybrids",
    "err_softmax",
    "fp_neg",
    "fp_noise",
    "fp_generated",
    "miss",
    "accuracy_training",
    "accuracy_test",
    "off_share",
    "dead_frac",
    "averaged_err_goodness",
    "averaged_fp_neg",
)
DIGITS = {
    "err_goodness": 2,
    "err_hybrids": 2,
    "err_softmax": 2,
    "auroc": 4,
    "loss": 3,
    "spikes": 0,
    "events": 0,
    "spikes_to_decision": 0,
    "synchrony": 3,
    "evoked_slope": 3,
    "pulse_response": 3,
    "weight_mean": 4,
    "bias_mean": 3,
    "energy": 0,
    "settle_residual": 4,
    "averaged_err_goodness": 2,
}  # decimal places, where not the usual
HIGHER_IS_BETTER = (
    "accuracy_training",
    "accuracy_test",
    "auroc",
    "dprime",
    "dprime_neg",
    "dprime_generated",
    "averaged_dprime",
)
MAY_LACK = ("synchrony", "irregularity", "off_share")  # of a sane network that hardly spikes
KINDS = {"pos": "real data", "neg": "wrong labels", "noise": "noise"}
LABELS = {
    "err_goodness": "error by goodness",
    "err_hybrids": "hybrids above their image",
    "err_softmax": "error by softmax",
    "loss": "cross-entropy",
    "fp_neg": "hallucination rate, negative data",
    "fp_noise": "hallucination rate, noise",
    "miss": "miss rate",
    "dprime": "d′",
    "dprime_neg": "d′, predicted last character",
    "dprime_generated": "d′, generated windows",
    "criterion": "criterion",
    "fp_generated": "false positives, generated",
    "perplexity_training": "perplexity, training strings",
    "perplexity_test": "perplexity, held-out strings",
    "accuracy_training": "accuracy, training strings",
    "accuracy_test": "accuracy, held-out strings",
    "auroc": "AUROC",
    "sleep_drive": "sleep drive E[p(x⁻)]",
    "decision_steps": "steps to decision",
    "rate": "mean rate",
    "active_frac": "active fraction",
    "evoked_slope": "slope of the evoked activity",
    "pulse_response": "response to a pulse",
    "gain_star": "gain with excessive activity",
    "energy": "energy, activity × synapses per image",
    "dimensionality": "dimensions of activity",
    "dead_frac": "silent units",
    "weight_mean": "mean weight",
    "weight_norm": "norm of weights",
    "bias_mean": "mean bias",
    "weight_path": "way of the weights",
    "settle_residual": "change in the last step",
    "firing_rate": "firing rate, Hz",
    "spikes": "spikes per image, all labels tried",
    "events": "synaptic events per image, all labels tried",
    "spikes_to_decision": "spikes to the decision, all labels tried",
    "synchrony": "synchrony χ²",
    "irregularity": "irregularity CV2",
    "off_share": "OFF periods, share of time",
    "averaged_err_goodness": "error by goodness, averaged weights",
    "averaged_fp_neg": "hallucination rate, averaged weights",
    "averaged_dprime": "d′, averaged weights",
    "goodness_correlation": "correlation with rates, goodness",
    "state_correlation": "correlation with rates, activity",
    **{f"cancellation_{k}": f"share cancelled from above, {v}" for k, v in KINDS.items()},
    **{f"agreement_{k}": f"agreement from above, {v}" for k, v in KINDS.items()},
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ours, low, high  mean over subjects and its 95 % interval (NaN bounds for fewer than three subjects)
    paper            the paper's figure, NaN where it gives none
    verdict          what the figures say, in words; behind "; " what an experiment remarks on it
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


def build(results: Path, protocol: Common, name: str, preset: str) -> list[Row]:
    """Every row of the table that the protocol asks for: for each variant and metric, its conditions, then differences.

    raises  nothing where a network diverged: the row has NaN and says in how many subjects
    """
    table, rows = protocol.table, []
    with open_file(results) as file:
        for variant, (metric, asked) in itertools.product(protocol.variants, table.metrics.items()):
            scale = 100.0 if is_percent(metric) else 1.0
            groups = {c: file[f"{variant}/{c}"] for c in table.conditions}
            # What a condition does not measure, such as spikes among rates, has no row.
            has = [c for c, group in groups.items() if split_metric(metric)[0] in group]
            value = {c: scale * _last(file, groups[c], metric) for c in has}
            papers = {c: asked.figure(variant, c) if asked is not None else None for c in value}
            papers = {c: math.nan if figure is None else figure for c, figure in papers.items()}
            lost = "unknown" if split_metric(metric)[0] in MAY_LACK else "diverged"
            sign = -1 if split_metric(metric)[0] in HIGHER_IS_BETTER else 1
            lines = [(c, *_mean(value[c], papers[c], sign, lost), papers[c]) for c in value]
            if table.against in value:
                reference = value[table.against]
                others = [c for c in value if c != table.against]
                lines += [(f"{c} − {table.against}", *_difference(value[c], reference, lost), math.nan) for c in others]
            for condition, found, verdict, figure in lines:
                rows.append(
                    Row(
                        protocol=name,
                        section=protocol.section,
                        variant=variant,
                        condition=condition,
                        metric=metric,
                        quantity=quantity(metric, condition, variant),
                        paper=figure,
                        ours=found.mean,
                        low=found.low,
                        high=found.high,
                        subjects=found.n,
                        preset=preset,
                        verdict=verdict,
                    )
                )
    return rows


def _last(file: h5py.File, group: h5py.Group, metric: str) -> np.ndarray:
    """A metric at the last probe of a condition, (subjects,): of the area asked for, or averaged over areas.

    What a subject has no value for, such as blocks that an area lacks, is left out; a subject without any has NaN.
    """
    name, area = split_metric(metric)
    value = group[name][-1].astype(float)
    if area is not None:
        value = value[:, file["area"].asstr()[:].tolist().index(area)]
    return mean_of_known(value.reshape(len(value), -1))


def _mean(values: np.ndarray, paper: float, sign: int, lost: str) -> tuple[Interval, str]:
    """Mean over subjects, and how it compares with the paper's figure.

    sign  1 where lower is better, −1 where higher is
    lost  what a value that is not finite means
    """
    if not np.isfinite(values).all():
        return _without_value(values, lost)
    found = mean_interval(values)
    if math.isnan(paper):
        return found, ""
    behind = sign * (found.mean - paper)
    return found, "reached" if behind <= 0 else f"{behind:.2f} {'above' if sign > 0 else 'below'} the paper"


def _difference(after: np.ndarray, before: np.ndarray, lost: str) -> tuple[Interval, str]:
    """Mean change within subjects, how many changed that way, and how likely that is without an effect."""
    if not np.isfinite(after - before).all():
        return _without_value(after - before, lost)
    up, down = int((after > before).sum()), int((after < before).sum())
    direction = f"up in {up} of {len(after)}" if up >= down else f"down in {down} of {len(after)}"
    if not up and not down:
        return paired_difference(after, before), "unchanged"
    return paired_difference(after, before), f"{direction}, p = {sign_flip_p(after - before):.2g}"


def _without_value(values: np.ndarray, lost: str) -> tuple[Interval, str]:
    """Divergence is data: nothing is dropped, and the mean is not a number."""
    count = int((~np.isfinite(values)).sum())
    return Interval(math.nan, math.nan, math.nan, len(values)), f"{lost} in {count} of {len(values)}"


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
    """The table as text: for each variant its conditions, then the differences between them; a line for each metric.

    Behind it stands what an experiment remarks.
    """
    blocks = []
    for variant in dict.fromkeys(row.variant for row in rows):
        mine = [row for row in rows if row.variant == variant]
        for differences in (False, True):
            part = [row for row in mine if ("−" in row.condition) == differences]
            if part:
                change = "change within subjects, " * differences
                blocks.append(_block(part, f"{variant}: {change}{mean_of(part[0].subjects)}"))
    if said := remarks(rows):
        blocks.append("\n".join(said))
    return "\n\n".join(blocks)


def remarks(rows: Sequence[Row]) -> list[str]:
    """What an experiment remarks on its rows, a line for each."""
    with_remark = [(row, row.verdict.partition("; ")[2]) for row in rows]
    return [f"{row.quantity}: {remark}, {row.subjects} subjects" for row, remark in with_remark if remark]


def mean_of(subjects: int) -> str:
    """What a figure over so many subjects is, in words."""
    if subjects == 1:
        return "one subject"
    return f"mean of {subjects}" + " [95 % interval]" * (subjects > 2)


def _block(rows: Sequence[Row], heading: str) -> str:
    conditions = list(dict.fromkeys(row.condition for row in rows))
    with_paper = any(not math.isnan(row.paper) for row in rows)
    lines = [[heading, *conditions, *(["paper"] if with_paper else [])]]
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = {row.condition: row for row in rows if row.metric == metric}
        papers = dict.fromkeys(f"{row.paper:g}" for row in mine.values() if not math.isnan(row.paper))
        name = label(metric) + (" (%)" if is_percent(metric) else "")
        cells = [cell(mine[condition]) if condition in mine else "–" for condition in conditions]
        lines.append([name, *cells, *([" / ".join(papers) or "–"] if with_paper else [])])
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text in columns, the first one a heading."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([padded[0], "-" * max(map(len, padded)), *padded[1:]])


def compare(points: Mapping[str, Sequence[Row]]) -> str:
    """The tables of several runs as one text: the first metric alone, for each variant a line for each run."""
    blocks = []
    first = next(iter(points.values()))[0].metric
    heading = label(first) + (" (%)" if is_percent(first) else "")
    for variant in dict.fromkeys(row.variant for rows in points.values() for row in rows):
        found = {
            name: [row for row in rows if (row.variant, row.metric) == (variant, first)]
            for name, rows in points.items()
        }
        columns = [row.condition for row in next(iter(found.values()))]
        lines = [[name, *map(cell, rows)] for name, rows in found.items()]
        blocks.append(aligned([[f"{variant}: {heading}", *columns], *lines]))
    return "\n\n".join(blocks)


def quantity(metric: str, condition: str, variant: str) -> str:
    """What a row is about, in words."""
    difference = "−" in condition
    unit = "" if not is_percent(metric) else ", points" if difference else ", %"
    return f"{'difference of ' * difference}{label(metric)}{unit}, {condition}, {variant}"


def is_percent(metric: str) -> bool:
    """Whether a metric, or that of an area, is a fraction in the file and a percentage in tables and figures."""
    return split_metric(metric)[0] in PERCENT


def label(metric: str) -> str:
    """A metric's name in words."""
    name, area = split_metric(metric)
    return LABELS.get(name, name) + (f", {area}" if area else "")


def cell(row: Row) -> str:
    """A row's figure as text: mean, interval, and for a difference the number of subjects on its side."""
    if math.isnan(row.ours):
        return row.verdict
    signed = "+" if "−" in row.condition else ""
    digits = DIGITS.get(split_metric(row.metric)[0], 1 if is_percent(row.metric) else 2)
    mean = f"{row.ours:{signed}.{digits}f}"
    bounds = "" if np.isnan(row.low) else f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    count = row.verdict.split(",")[0].replace(" in ", " ") if "−" in row.condition else ""
    return f"{mean}{bounds}" + (f" {count}" if count else "")
