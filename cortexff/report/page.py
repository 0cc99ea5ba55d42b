"""The page of a report: one HTML file with its figures inside, that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cortexff.report import predictions, scorecard, tables
from cortexff.report.findings import CONTROL, DEPRIVED, Findings
from cortexff.report.outcomes import OUTCOMES, Measured
from cortexff.report.prose import CAVEATS, PRIOR_ART, QUESTION, STYLE, TITLE
from cortexff.report.study import ABREAST
from cortexff.report.tables import Cell, Table
from cortexff.report.words import number

PROVENANCE: Mapping[str, str] = {
    "protocol": "protocol_name",
    "preset": "preset",
    "model": "model_source",
    "images": "images_read_from",
    "seed": "seed",
    "status": "status",
    "started": "started",
    "seconds": "seconds",
    "machine": "machine",
    "commit": "git_commit",
    "versions": "versions",
    "command": "command_line",
}
WORDS = (scorecard.MIMICS, scorecard.OPPOSITE, scorecard.ABSENT, scorecard.UNDECIDED, scorecard.NOT_TESTED)
PREDICTED = (predictions.CONFIRMED, predictions.REFUTED, predictions.UNDECIDED, predictions.NOT_TESTED)


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its title, and the picture as PNG."""

    stem: str
    title: str
    png: bytes


@dataclass(frozen=True)
class Content:
    """All that is on the page."""

    findings: Findings
    predicted: predictions.Preregistration | None
    judged: Sequence[predictions.Row]
    pictures: Sequence[Picture]
    files: Sequence[str]  # names of the files beside it


def all_tables(findings: Findings, judged: Sequence[predictions.Row]) -> dict[str, Table]:
    """The tables by the names of their files."""
    made = [
        tables.of_scorecard(findings),
        tables.of_predictions(judged),
        tables.of_primary(findings),
        tables.of_contrasts(findings.contrasts),
        tables.of_doses(findings),
        tables.of_responses(findings),
        tables.of_models(findings),
        tables.of_times(findings),
        tables.of_recoveries(findings),
        tables.of_reactions(findings),
        tables.of_survivals(findings),
    ]
    return {table.stem: table for table in made}


def render(content: Content) -> str:
    """The page as HTML."""
    findings = content.findings
    made = all_tables(findings, content.judged)
    sections = {
        "question": ("Question", _paragraphs([QUESTION])),
        "summary": ("Summary", _paragraphs([summary(findings, content.judged)])),
        "figures": ("Figures", _figures(content)),
        "scorecard": ("Scorecard", _scorecard(made["scorecard"])),
        "predictions": ("Predictions", _predictions(content, made["predictions"])),
        "comparisons": ("Comparisons", _table(made["primary"]) + _comparisons(findings)),
        "doses": ("Matched dose", _table(made["doses"], folded=True)),
        "dose-response": (
            "Dose-response",
            _table(made["dose_response"]) + _table(made["dose_response_models"], folded=True),
        ),
        "time-constants": ("Time constants", _table(made["time_constants"])),
        "recovery": ("Recovery", _table(made["recovery"], folded=True)),
        "reaction-times": ("Reaction times", _table(made["reaction_times"], folded=True)),
        "survival": ("Survival", _table(made["survival"])),
        "caveats": ("Caveats", "<ul>" + "".join(f"<li>{_text(one)}</li>" for one in CAVEATS) + "</ul>"),
        "prior-art": ("Prior art, and a result withdrawn", _paragraphs(PRIOR_ART)),
        "provenance": ("Provenance", _provenance(content)),
        "files": ("Files that are written beside this page", _files(content.files)),
    }
    menu = "".join(f'<a href="#{key}">{_text(title)}</a> ' for key, (title, _) in sections.items())
    body = "".join(
        f'<section id="{key}"><h2>{_text(title)}</h2>{what}</section>\n' for key, (title, what) in sections.items()
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(TITLE)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{_text(TITLE)}</h1>\n<nav>{menu}</nav>\n{body}</body>\n</html>\n"
    )


def summary(findings: Findings, judged: Sequence[predictions.Row]) -> str:
    """What was found in one paragraph: fixed sentences with the figures in place."""
    subjects = sum(one.population.subjects for one in findings.studies)
    said = [f"{subjects} networks in {_count(len(findings.studies), 'population')} were studied."]
    for one in findings.studies:
        said.append(_deprivation(findings, one))
    lost = [one for one in findings.survivals if (one.condition, one.event) == (DEPRIVED, "diverged")]
    said.append(f"Of all, {sum(one.lost for one in lost)} diverged while deprived.")
    for one in findings.studies:
        taken = findings.recovery(one.name, "recovered", "fp_neg")
        if taken is not None and taken.share.n and taken.share.mean == taken.share.mean:
            slept = int(one.courses["recovered"].updates[-1])
            share = "all and more" if taken.share.mean > 1.005 else f"{100 * taken.share.mean:.0f} %"
            said.append(f"In {one.name}, {slept} updates of sleep took {share} of the excess of hallucinations away.")
    card = [verdict for _, of in scorecard.scorecard(findings.abreast) for verdict in of.values()]
    counts = ", ".join(f"{sum(v.word == word for v in card)} {word}" for word in WORDS)
    said.append(f"Of the signatures of sleep loss, counted in each population of the scorecard, are: {counts}.")
    if judged:
        counts = ", ".join(f"{sum(row.judgement.word == word for row in judged)} {word}" for word in PREDICTED)
        said.append(f"Of the predictions, counted in each run: {counts}.")
    few = min(one.population.subjects for one in findings.studies)
    if few < scorecard.LEAST_SUBJECTS:
        said.append(f"With {few} subjects no test can be significant: this is a first look, not a result.")
    return " ".join(said)


def _deprivation(findings: Findings, one: Measured) -> str:
    updates = int(one.courses[DEPRIVED].updates[-1])
    parts = []
    negative = "hybrids" if one.population.protocol.stimuli.labels == "none" else "wrong labels"
    for outcome, words in (
        ("fp_neg", f"{negative} taken for real"),
        ("err_goodness", "the error"),
        ("err_hybrids", "hybrids above their image"),
        ("dprime", "d′"),
        ("criterion", "the criterion"),
    ):
        found = findings.contrast(one.name, DEPRIVED, CONTROL, outcome)
        if found is None:
            continue
        shown = OUTCOMES[outcome]
        unit = " %" if shown.label.endswith("%") else ""
        text = f"{words} from {number(found.before, shown.digits)} to {number(found.after, shown.digits)}{unit}"
        parts.append(f"{text} ({found.verdict})")
    changed = f"In {one.name}, {updates} updates without the negative phase changed {', '.join(parts)}"
    return f"{changed}, against a control that kept it."


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'s' if count != 1 else ''}"


def _text(words: object) -> str:
    return html.escape(str(words), quote=False)


def _paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{_text(one)}</p>" for one in texts)


def _figures(content: Content) -> str:
    if not content.pictures:
        return "<p>None could be drawn.</p>"
    names = [one.name for one in content.findings.studies]
    first, others = names[:ABREAST], names[ABREAST:]
    said = []
    if others:
        more = _count(len(others), "more population")
        said = [
            f"Side by side stand {', '.join(first)}; {more} ({', '.join(others)}) are in the figure that has a row for "
            "each, and in the comparisons."
        ]
    return _paragraphs(said) + "".join(map(_figure, content.pictures))


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    title = html.escape(picture.title)
    return (
        f'<figure id="figure-{picture.stem}"><img alt="{title}" src="data:image/png;base64,{data}">'
        f"<figcaption>{title}</figcaption></figure>\n"
    )


def _cell(value: str | int | Cell) -> str:
    if isinstance(value, Cell):
        return f'<td class="number">{_text(value.text)}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    kind = f' class="{value.replace(" ", "")}"' if value in (*WORDS, *PREDICTED) else ""
    return f"<td{kind}>{_text(value)}</td>"


def _table(table: Table, folded: bool = False) -> str:
    if not table.rows:
        return f"<p>{_text(table.title)}: not tested.</p>"
    head = "".join(f"<th>{_text(name)}</th>" for name in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    inner = (
        f'<p class="note">{_text(table.note)}</p><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div>"
    )
    title = _text(table.title)
    return (
        f"<details><summary>{title} ({len(table.rows)} rows)</summary>{inner}</details>"
        if folded
        else f"<h3>{title}</h3>{inner}"
    )


def _scorecard(table: Table) -> str:
    """Verdict and figures of a population in one column."""
    heads, first = table.columns, 4
    columns = [*heads[:first], *heads[first::2]]
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    rows = []
    for row in table.rows:
        verdicts = [
            f'<td><span class="{word.replace(" ", "")}">{_text(word)}</span><br>'
            f'<span class="note">{_text(figures)}</span></td>'
            for word, figures in zip(row[first::2], row[first + 1 :: 2], strict=True)
        ]
        rows.append(f"<tr>{''.join(map(_cell, row[:first]))}{''.join(verdicts)}</tr>\n")
    return (
        f'<h3>{_text(table.title)}</h3><p class="note">{_text(table.note)}</p><div class="wide"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def _predictions(content: Content, table: Table) -> str:
    if content.predicted is None:
        return "<p>Nothing was predicted in a file of its own.</p>"
    lines = [f"SHA-256 of the preregistration: {content.predicted.hash}."]
    lines += [f"Registered as {kind}: {which}." for kind, which in content.predicted.subjects.items()]
    for file, names in predictions.files(content.findings.studies).items():
        about = next(one for one in content.findings.studies if one.name in names).population.about
        kept = about.get("preregistration")
        same = (
            "which holds none" if kept is None else "the same" if kept == content.predicted.hash else f"another: {kept}"
        )
        lines.append(f"In the results file of {file} (seed {about.get('seed', 'unknown')}): {same}.")
    return _paragraphs([" ".join(lines)]) + _table(table)


def _comparisons(findings: Findings) -> str:
    parts = []
    pairs = dict.fromkeys((one.population, one.condition, one.reference) for one in findings.contrasts)
    for population, condition, reference in pairs:
        mine = [
            one
            for one in findings.contrasts
            if (one.population, one.condition, one.reference) == (population, condition, reference)
        ]
        table = tables.of_contrasts(mine, title=f"{population}: {condition} against {reference}", doses=False)
        dropped = {table.columns.index(name) for name in ("population", "condition", "against")}
        doses = " ".join(
            f"{side}: {dose.positive} positive and {dose.negative} negative updates, {dose.images} images, way of the"
            f" weights {number(dose.path, 3)}."
            for side, dose in ((condition, mine[0].dose), (reference, mine[0].reference_dose))
        )
        kept = [place for place in range(len(table.columns)) if place not in dropped]
        rows = [[row[place] for place in kept] for row in table.rows]
        columns = [table.columns[place] for place in kept]
        parts.append(_table(Table(table.stem, table.title, doses, columns, rows), folded=True))
    return "<h3>All comparisons</h3><p>Read as the primary outcomes.</p>" + "".join(parts)


def _provenance(content: Content) -> str:
    columns = ["run", *PROVENANCE]
    rows = []
    for file, names in predictions.files(content.findings.studies).items():
        population = next(one for one in content.findings.studies if one.name in names).population
        about = population.about
        rows.append([file, *(_about(about, key) for key in PROVENANCE.values()), str(population.subjects)])
    table = Table("provenance", "Where the results come from", "", [*columns, "subjects"], rows)
    turned = [list(column) for column in zip(table.columns, *table.rows, strict=True)]
    head, *rest = turned
    return _table(Table("provenance", table.title, table.note, ["", *head[1:]], rest))


def _about(about: Mapping[str, object], key: str) -> str:
    value = about.get(key, "–")
    if key == "versions" and value != "–":
        return ", ".join(f"{name} {number}" for name, number in json.loads(str(value)).items())
    return f"{value:.0f}" if key == "seconds" and value != "–" else str(value)


def _files(names: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(name)}</li>" for name in names) + "</ul>"
