"""The tables of a report, as rows: the page prints them, and each is a CSV file too."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cortexff.analysis.statistics import Effect, Interval, mean_interval
from cortexff.report import predictions, scorecard
from cortexff.report.findings import (
    CONTROL,
    DEPRIVED,
    Contrast,
    Dose,
    Findings,
    known_interval,
    matched_doses,
    need_exponent,
)
from cortexff.report.outcomes import BOUNDS, OUTCOMES, Measured
from cortexff.report.study import ABREAST
from cortexff.report.words import estimate, number, p_value

PEOPLE = {"wake": 18.2, "sleep": 4.2}  # hours (Daan et al. 1984)


@dataclass(frozen=True)
class Cell:
    """A figure: as it is kept, and as it is printed."""

    value: float
    text: str


@dataclass(frozen=True)
class Table:
    """Rows under their columns.

    stem   name of its file
    title  in words
    note   how to read it
    rows   texts, whole numbers and cells
    """

    stem: str
    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | Cell]]

    def write(self, folder: Path) -> Path:
        """Write it as CSV, with every figure in full, and return the path."""
        path = folder / f"{self.stem}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([_kept(cell) for cell in row] for row in self.rows)
        return path


def _kept(cell: str | int | Cell) -> str | int:
    return ("" if np.isnan(cell.value) else f"{cell.value:.6g}") if isinstance(cell, Cell) else cell


def cell(value: float, digits: int = 2, signed: bool = False) -> Cell:
    """A number with so many decimal places."""
    return Cell(value, number(value, digits, signed))


def cells(found: Interval | Effect | None, digits: int = 2, signed: bool = False) -> list[Cell]:
    """Mean, low and high."""
    bounds = (float("nan"),) * 3 if found is None else (found.mean, found.low, found.high)
    return [cell(bound, digits, signed) for bound in bounds]


def of_scorecard(findings: Findings) -> Table:
    """What sleep loss does to people and animals, beside what its model does to networks."""
    more = [one.name for one in findings.studies[ABREAST:]]
    left_out = f" Not here: {', '.join(more)}." if more else ""
    findings = findings.abreast
    missing = {"max", "min", "mixed"} - {one.sign for one in findings.studies}
    names = [*(one.name for one in findings.studies), *sorted(missing)]
    rows = []
    for one, of in scorecard.scorecard(findings):
        verdicts = [of.get(name, scorecard.NONE) for name in names]
        figures = [part for verdict in verdicts for part in (verdict.word, verdict.figures)]
        rows.append([one.number, one.finding, one.source, one.measure, *figures])
    heads = [part for name in names for part in (name, f"{name}: change")]
    note = (
        "mimics: as in people or animals; opposite: the other way round; absent: a change that would matter is ruled"
        " out; undecided: neither is shown. Deprived against control unless said otherwise; change within subjects"
        " [95 % interval], d_z in its own standard deviations."
        f" A sign that no population has is not tested.{left_out}"
    )
    columns = ["id", "in people and animals", "found by", "stands for it here", *heads]
    return Table("scorecard", "Does deprivation of the negative phase mimic sleep loss?", note, columns, rows)


def of_predictions(rows: Sequence[predictions.Row]) -> Table:
    """What was predicted, and what became of it."""
    found = [
        [
            row.id,
            row.says,
            row.confirmed_if,
            row.refuted_if,
            cell(row.prior),
            row.file,
            row.judgement.word,
            row.judgement.figures,
        ]
        for row in rows
    ]
    columns = ["id", "prediction", "confirmed if", "refuted if", "prior", "run", "verdict", "figures"]
    note = (
        "Wording and prior probability are those of the preregistration. A threshold of a mean counts as passed where"
        f" its whole 95 % interval lies beyond it; fewer than {scorecard.LEAST_SUBJECTS} subjects decide nothing."
        " Nothing was predicted of runs that are not here."
    )
    return Table("predictions", "What was predicted", note, columns, found)


CONTRAST_COLUMNS = [
    *(
        "population",
        "condition",
        "against",
        "outcome",
        "after",
        "before",
        "change",
        "low",
        "high",
        "d_z",
        "p",
        "family",
    ),
    *("higher", "lower", "diverged", "subjects", "margin", "p of equivalence", "what is shown"),
]
DOSE_COLUMNS = ["positive updates", "negative updates", "images", "way of the weights"]


def of_contrasts(
    contrasts: Sequence[Contrast], stem: str = "contrasts", title: str = "All comparisons", doses: bool = True
) -> Table:
    """Outcomes of conditions against their references.

    doses  whether what both sides have lived through is beside each
    """
    extra = [f"{name}, {side}" for side in ("after", "before") for name in DOSE_COLUMNS] if doses else []
    rows = []
    for one in contrasts:
        outcome, found = OUTCOMES[one.outcome], one.effect
        digits = outcome.digits
        counts = [found.up, found.down, found.lost, found.n] if found else ["", "", "", ""]
        rows.append(
            [
                one.population,
                one.condition,
                one.reference,
                outcome.label,
                cell(one.after, digits),
                cell(one.before, digits),
                *cells(found, digits, signed=True),
                cell(found.d_z if found else float("nan"), 1),
                Cell(one.p, p_value(one.p)),
                one.family,
                *counts,
                cell(one.margin, digits),
                _p(found),
                one.verdict,
                *([part for dose in (one.dose, one.reference_dose) for part in _dose_cells(dose)] if doses else []),
            ]
        )
    note = (
        "Change within subjects with its 95 % BCa interval; p of a sign-flip test, adjusted over the populations of a"
        " results file: primary outcomes by Holm, all others by Benjamini and Hochberg; higher, lower, diverged:"
        " subjects; p of equivalence: of two one-sided tests against the margin (1 point of error, 0.2 of d′, else half"
        " a standard deviation)."
    )
    return Table(stem, title, note, [*CONTRAST_COLUMNS, *extra], rows)


def _p(found: Effect | None) -> Cell:
    p = found.equivalence_p if found else float("nan")
    return Cell(p, p_value(p))


def _dose_cells(dose: Dose) -> list[int | Cell]:
    return [dose.positive, dose.negative, dose.images, cell(dose.path, 3)]


def of_primary(findings: Findings) -> Table:
    """The three primary outcomes."""
    return of_contrasts(
        [one for one in findings.contrasts if one.family == "primary"],
        "primary",
        f"The primary outcomes: {DEPRIVED} against {CONTROL}",
        doses=False,
    )


def of_doses(findings: Findings) -> Table:
    """What was equated between conditions, and what was not."""
    rows = [[name, condition, *_dose_cells(dose)] for name, condition, dose in matched_doses(findings.studies)]
    note = (
        "What subjects have lived through since the first condition of their line ended. Way of the weights: summed"
        " length of all changes (integrated plasticity), mean over areas and subjects."
    )
    return Table("doses", "Matched dose", note, ["population", "condition", *DOSE_COLUMNS], rows)


def of_responses(findings: Findings) -> Table:
    """Which law describes how outcomes grow with time awake."""
    rows = []
    for one in findings.responses:
        winner = one.winner
        frequency = one.comparison.frequency[winner] if winner else float("nan")
        scale = one.comparison.mean[winner].parameters[2:] if winner else []
        half = (one.values[:, :1] + one.values[:, -1:]).mean() / 2
        reached = one.values.mean(0)
        beyond = reached >= half if reached[-1] > reached[0] else reached <= half
        rows.append(
            [
                one.population,
                OUTCOMES[one.outcome].label,
                winner or "too few doses",
                cell(frequency),
                cell(one.against_linear, 1),
                cell(float(scale[0]) if len(scale) else float("nan"), 1),
                int(one.doses[beyond.argmax()]),
                cell(reached[0], OUTCOMES[one.outcome].digits),
                cell(reached[-1], OUTCOMES[one.outcome].digits),
            ]
        )
    columns = ["population", "outcome", "best law", "share of resamples", "ΔAICc of the line", "its scale, updates"]
    columns += ["first probe beyond half", "at 0", "at the end"]
    note = (
        "Laws compared by AICc on the mean over subjects. Lapses of people grow linearly beyond 15.84 hours awake"
        " (Van Dongen et al. 2003); where the line's AICc is higher by more than 6, it is out of the question."
    )
    return Table("dose_response", "Dose-response over the updates of deprivation", note, columns, rows)


def of_models(findings: Findings) -> Table:
    """Every law that was tried."""
    rows = [
        [
            one.population,
            OUTCOMES[one.outcome].label,
            name,
            cell(float(fit.aicc), 1),
            cell(one.comparison.frequency[name]),
            cell(one.comparison.left_out[name], 3),
            ", ".join(f"{value:.4g}" for value in fit.parameters),
        ]
        for one in findings.responses
        for name, fit in one.comparison.mean.items()
    ]
    columns = ["population", "outcome", "law", "AICc", "share of resamples", "error at a dose left out", "parameters"]
    return Table("dose_response_models", "Every law that was tried", "Fits to the mean over subjects.", columns, rows)


def of_times(findings: Findings) -> Table:
    """Time constants, and how much sleep is needed."""
    rows = []
    nan = float("nan")
    for one in findings.process:
        for name, values, human in (
            ("τ of the sleep drive in wake, updates", one.wake, f"{PEOPLE['wake']} h"),
            ("τ of the sleep drive in sleep, updates", one.sleep, f"{PEOPLE['sleep']} h"),
            ("τ_wake / τ_sleep", one.wake / one.sleep, f"{PEOPLE['wake'] / PEOPLE['sleep']:.1f}"),
        ):
            rows.append(
                [one.population, name, *cells(known_interval(values), 1), int(np.isfinite(values).sum()), human]
            )
    for one in findings.needs:
        label = f"updates of sleep needed after {one.awake} of wake"
        known = int(np.isfinite(one.need.updates).sum())
        longer = int(one.need.censored.sum())
        note = f"not back after {one.slept} in {longer}" if longer else ""
        rows.append([one.population, label, *cells(known_interval(one.need.updates), 1), known, note])
    for name in dict.fromkeys(one.population for one in findings.needs):
        exponent = need_exponent([one for one in findings.needs if one.population == name])
        rows.append(
            [name, "exponent of need on time awake", *cells(exponent), exponent.n if exponent else 0, ""]
            if exponent
            else [name, "exponent of need on time awake", *[cell(nan)] * 3, 0, "needs two times awake or more"]
        )
    note = (
        "Over the subjects whose curve tells it: one that is flat, or all but linear, has no time constant. Sleep is"
        " needed until negative data are taken for real no more often than before deprivation."
    )
    columns = ["population", "quantity", "mean", "low", "high", "subjects", "people, or a note"]
    return Table("time_constants", "Process S and the need for sleep", note, columns, rows)


def of_recoveries(findings: Findings) -> Table:
    """What each kind of sleep takes away."""
    rows = [
        [
            one.population,
            one.condition,
            OUTCOMES[one.outcome].label,
            *cells(one.excess, OUTCOMES[one.outcome].digits, signed=True),
            *cells(one.residual, OUTCOMES[one.outcome].digits, signed=True),
            *cells(one.share),
        ]
        for one in findings.recoveries
    ]
    parts = [f"{name}{bound}" for name in ("excess", "left", "share removed") for bound in ("", ", low", ", high")]
    columns = ["population", "condition", "outcome", *parts]
    note = (
        "Excess over the control before sleep, what is left of it after, and the share that is gone (1: all; above 1:"
        " beyond the control), printed where the excess itself is sure."
    )
    return Table("recovery", "What sleep takes away", note, columns, rows)


def of_reactions(findings: Findings) -> Table:
    """Outcomes of the vigilance task."""
    names = ("lapse", "omission", "false_start", "inv_rt", "median", "drift", "tau")
    rows = [
        [
            one.name,
            condition,
            bound,
            *(
                Cell(float(values.mean()), estimate(_mean(values), OUTCOMES[f"{name}_{bound}"].digits))
                for name in names
                for values in [times[bound].outcomes[name]]
            ),
        ]
        for one in findings.studies
        for condition, times in one.reaction_times.items()
        for bound in BOUNDS
    ]
    columns = [
        "population",
        "condition",
        "bound",
        "lapses, %",
        "omissions, %",
        "false starts, %",
        "1/RT",
        "median, frames",
    ]
    note = (
        "The detector is calibrated on each subject before deprivation: 3 % false starts. Absolute: its bound is kept;"
        " normalized: evidence is brought to the scale that noise had before. Lapse: slower than twice the median then,"
        " or no response. Mean over subjects [95 % interval]; a dash: not known in every subject."
    )
    return Table("reaction_times", "The vigilance task", note, [*columns, "drift", "ex-Gaussian τ, frames"], rows)


def _mean(values: np.ndarray) -> Interval | None:
    return mean_interval(values) if np.isfinite(values).all() else None


def of_survivals(findings: Findings) -> Table:
    """How many networks diverge or fall silent."""
    rows = [
        [
            one.population,
            one.condition,
            one.event,
            one.lost,
            one.n,
            cell(one.median, 0),
            one.watched,
            Cell(one.p, p_value(one.p)),
        ]
        for one in findings.survivals
        if one.lost or one.condition in (DEPRIVED, CONTROL, "deprived_linear", "deprived_hinge")
    ]
    columns = [
        "population",
        "condition",
        "event",
        "networks",
        "of",
        "median, updates",
        "watched, updates",
        "p, log-rank",
    ]
    note = (
        "Diverged: values not finite, error of 80 % or more, or goodness a million times its threshold; silent: mean"
        " rate below a tenth of what it was. Kaplan-Meier; p against the control while both were watched, unpaired."
        " Conditions without such networks are left out, but for the main ones."
    )
    return Table("survival", "How many networks last", note, columns, rows)


def of_trials(studies: Sequence[Measured]) -> Table:
    """Every trial of the vigilance task."""
    return Table("trials", "Every trial", "", _TRIAL_COLUMNS, list(_trials(studies)))


_TRIAL_COLUMNS = ["population", "condition", "subject", "trial", "onset", "rt_absolute", "rt_normalized"]


def _trials(studies: Sequence[Measured]) -> Iterator[list]:
    for one in studies:
        for condition, times in one.reaction_times.items():
            onset = one.courses[condition].found["vigilance_onset"]
            both = np.stack([times[bound].rt for bound in BOUNDS], axis=-1)
            for subject, trials in enumerate(both):
                for trial, (absolute, normalized) in enumerate(trials):
                    of_trial = (Cell(absolute, ""), Cell(normalized, ""))
                    yield [one.name, condition, subject, trial, int(onset[trial]), *of_trial]
