"""The page has every section and needs nothing but itself; its tables say what the findings say."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
from sleep_study import TRIALS, study

from cortexff.report import page, predictions, tables
from cortexff.report.findings import Findings
from cortexff.report.outcomes import Measured

CHANGES = {"deprived": {"fp_neg": 0.3, "criterion": -0.6}, "recovered": {"fp_neg": -1.9}}
SECTIONS = [
    *("question", "summary", "figures", "scorecard", "predictions", "comparisons", "doses", "dose-response"),
    *("time-constants", "recovery", "reaction-times", "survival", "caveats", "prior-art", "provenance", "files"),
]
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects sections, what the page would fetch, and tags that are not closed."""

    def __init__(self):
        super().__init__()
        self.sections, self.fetched, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "section":
            self.sections.append(attrs["id"])
        self.fetched += [attrs[name] for name in ("src", "href", "srcset", "action") if name in attrs]
        self.fetched += ["script"] if tag in ("script", "link", "iframe") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def content():
    conditions = ("development", "control", "frozen", "deprived", "recovered")
    findings = Findings([Measured(study(CHANGES, vigilance=True, conditions=conditions))])
    registered = predictions.preregistration()
    picture = page.Picture("recovery", "Sleep <helps>", b"\x89PNG")
    about = {"status": "running", "seconds": 3.7, "versions": json.dumps({"python": "3.11"}), "machine": "a & b"}
    findings.studies[0].population.about.update(about)
    return page.Content(findings, registered, predictions.judge(findings, registered), [picture], ["contrasts.csv"])


@pytest.fixture(scope="module")
def text(content):
    return page.render(content)


def test_the_page_has_every_section_and_fetches_nothing(text):
    """Links lead to its own sections, pictures are inside, no script, no style sheet."""
    reader = Reader()
    reader.feed(text)
    assert reader.sections == SECTIONS and not reader.open
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in reader.fetched)
    assert not re.search(r"https?://|url\(|@import", text)


def test_words_of_the_data_are_escaped(text):
    """A title or a machine with a sign of HTML."""
    assert "Sleep &lt;helps&gt;" in text and "a &amp; b" in text and "<helps>" not in text


def test_the_summary_is_written_from_the_findings(content):
    """Its figures are those of the comparisons."""
    said = page.summary(content.findings, content.judged)
    found = content.findings.contrast("max", "deprived", "control", "fp_neg")
    assert said.startswith("10 networks in 1 population were studied. In max, 1000 updates without the negative phase")
    assert f"from {found.before:.2f} to {found.after:.2f} % (higher)" in said
    assert "0 diverged while deprived" in said and "7 updates of sleep took" in said


def test_prior_art_is_reported_with_care(text):
    """What was not read in the original is said to be reported."""
    prior = text[text.index('id="prior-art"') : text.index('id="provenance"')]
    assert prior.count("reported to") >= 4 and "2310.18647" in prior and "2212.13345" in prior


def test_a_preregistration_that_a_run_does_not_hold_is_told(content, text):
    """The hash of the file is printed, and whether the results hold the same."""
    assert content.predicted.hash in text and "which holds none" in text
    content.findings.studies[0].population.about["preregistration"] = content.predicted.hash
    assert "In the results file of default: the same" in page.render(content)


def test_every_table_is_a_file_with_its_rows(content, tmp_path):
    """Columns have names of their own, and figures are there in full."""
    for stem, table in page.all_tables(content.findings, content.judged).items():
        path = table.write(tmp_path)
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        assert path.name == f"{stem}.csv" and len(set(head)) == len(head)
        assert len(rows) == len(table.rows) and {len(row) for row in rows} <= {len(head)}
    with (tmp_path / "primary.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    found = content.findings.contrast("max", "deprived", "control", "fp_neg")
    assert float(first["change"]) == pytest.approx(found.effect.mean, rel=1e-5)


def test_signs_that_were_not_run_have_a_column(content):
    """Min and mixed, not tested throughout."""
    table = tables.of_scorecard(content.findings)
    place = table.columns.index("mixed")
    assert "min" in table.columns and {row[place] for row in table.rows} == {"not tested"}


def test_every_trial_is_kept(content):
    """Of each condition with a session, subject by subject."""
    table = tables.of_trials(content.findings.studies)
    assert len(table.rows) == 5 * 10 * TRIALS
    times = content.findings.studies[0].reaction_times["deprived"]["absolute"].rt
    row = next(row for row in table.rows if row[:4] == ["max", "deprived", 2, 7])
    assert row[5].value == pytest.approx(times[2, 7], nan_ok=True)
