"""What a missing negative phase does: five sentences and two tables, from kept results files (section 9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from cortexff.analysis.statistics import Effect, effect
from cortexff.report.findings import CONTROL, DEPRIVED, response, share_removed
from cortexff.report.outcomes import BEFORE, OUTCOMES, Measured
from cortexff.report.scorecard import DECISIVE
from cortexff.report.study import Population
from cortexff.report.words import UNKNOWN, in_words, listed, markdown_table, named, number, one_of

NEEDED = (
    "development",
    CONTROL,
    DEPRIVED,
    BEFORE,
    "recovered",
    "scaling",
    "other_synapses",
    "deprived_linear",
    "deprived_linear_longer",
    "deprived_longer",
)
SLOWING = ("logarithmic", "saturating", "hill")  # laws of what grows ever more slowly
PHYSIOLOGY = ("rate", "evoked_slope", "energy")
OF_FACTORS = ("fp_neg", "criterion", "dprime", "err_goodness")
IN_TABLE = {  # outcome → what deprivation is compared with
    **dict.fromkeys(OF_FACTORS, CONTROL),
    **dict.fromkeys(("lapse_absolute", "lapse_normalized", "false_start_absolute"), BEFORE),
    **dict.fromkeys(PHYSIOLOGY, CONTROL),
}


def measured(populations: Sequence[Population]) -> dict[str, Measured]:
    """Those that were deprived, by name, with the conditions that are spoken of."""
    return {
        one.name: Measured(
            dataclasses.replace(one, courses={name: one.courses[name] for name in NEEDED if name in one.courses})
        )
        for one in populations
        if {CONTROL, DEPRIVED} <= one.courses.keys()
    }


def of_deprivation(studies: Mapping[str, Measured], factors: Mapping[str, Measured] | None = None) -> Iterator[str]:
    """Five sentences on what a missing negative phase does; figures stand in the order of the populations.

    factors  populations in which one thing is changed
    """
    yield _hallucinations(studies)
    yield _criterion(studies)
    yield _signs_of_sleep_loss(studies)
    yield _what_sleep_does(studies)
    yield _what_changes_it(studies, factors or {})


def _hallucinations(studies: Mapping[str, Measured]) -> str:
    after, before = (
        listed([number(_mean(one, condition, "fp_neg"), 1) for one in studies.values()])
        for condition in (DEPRIVED, CONTROL)
    )
    rise = [_change(one, "fp_neg") for one in studies.values()]
    more = all(change is not None and change.low > 0 for change in rise)
    laws = [found for one in studies.values() if (found := response(one, "fp_neg")) and found.winner]
    slows = len(laws) == len(studies) and all(
        found.winner in SLOWING and found.against_linear > DECISIVE for found in laws
    )
    course = "a share of which no law says for sure that it grows ever more slowly"
    if slows:
        course = "a share that grows ever more slowly, not in proportion to time awake as lapses do in people"
    protocols = [one.population.protocol for one in studies.values()]
    subjects, images = ({of(one) for one in protocols} for of in (lambda p: p.subjects, named))
    lived = {int(one.courses[DEPRIVED].updates[-1]) for one in studies.values()}
    return (
        f"{'In part: a' if more else 'A'}fter {one_of(lived)} updates without negative data {one_of(subjects)} "
        f"subjects of {one_of(images)} take {after} % of wrong labels for real ({listed(list(studies))}) against "
        f"{before} % in those that kept both phases, {course}."
    )


def _criterion(studies: Mapping[str, Measured]) -> str:
    pairs = [[_change(one, name) for name in ("criterion", "dprime")] for one in studies.values()]
    mostly = all(None not in pair and abs(pair[0].mean) > abs(pair[1].mean) for pair in pairs)
    lead = "In the same order, what moves more is the criterion" if mostly else "The criterion moves"
    return (
        f"{lead}, by {_each(studies, 'criterion')}, while d′ changes by {_each(studies, 'dprime')} and the error by "
        f"{_each(studies, 'err_goodness')} points."
    )


def _signs_of_sleep_loss(studies: Mapping[str, Measured]) -> str:
    changes = {
        bound: [_change(one, f"lapse_{bound}") for one in studies.values()] for bound in ("absolute", "normalized")
    }
    rises = {bound: None not in some and all(one.low > 0 for one in some) for bound, some in changes.items()}
    if all(rises.values()):
        lead = "As in people, who lapse early and hallucinate late, lapses rise"
    elif any(rises.values()):
        lead = "Whether lapses rise, as they do in people long before hallucinations, hangs on the observer"
    else:
        lead = "People lapse early and hallucinate late; here no rise of lapses is shown"
    up = [
        name
        for name, one in studies.items()
        if all((change := _change(one, outcome)) is not None and change.low > 0 for outcome in PHYSIOLOGY)
    ]
    return (
        f"{lead}: against the time before they change by {_each(studies, 'lapse_absolute')} points where the bound of "
        f"evidence stays, and by {_each(studies, 'lapse_normalized')} where it adapts to noise, and false starts by "
        f"{_each(studies, 'false_start_absolute')} where it stays; activity, its evoked slope and energy all rise, as "
        f"in sleep-deprived cortex, in {listed(up) or 'no population'}."
    )


def _what_sleep_does(studies: Mapping[str, Measured]) -> str:
    def shares(condition: str, of: Callable[[float], float] = lambda share: share) -> str:
        found = [_removed(one, condition) for one in studies.values()]
        known = ["an unknown share" if one is None else _percent(of(one)) for one in found]
        return listed(known) if any(one is not None for one in found) else "an unknown share"

    slept = {int(one.courses["recovered"].updates[-1]) for one in studies.values() if one.has("recovered")}
    return (
        f"Of the excess of hallucinations {one_of(slept)} updates of sleep take away {shares('recovered')}, and "
        f"scaling of the synapses alone {shares('scaling')}; giving each change of deprivation to another synapse "
        f"makes {shares('other_synapses', lambda share: 1 - share)} of it."
    )


def _what_changes_it(studies: Mapping[str, Measured], factors: Mapping[str, Measured]) -> str:
    linear = []
    for name, one in studies.items():
        if "deprived_linear" in one.divergence:
            loud, quiet = (lives["deprived_linear"] for lives in (one.divergence, one.silence))
            fates = {"diverge": loud.lost.sum(), "fall silent": (quiet.lost & ~loud.lost).sum()}
            told = [f"{lost} of {loud.lost.size} {fate}" for fate, lost in fates.items() if lost]
            linear.append(f"{listed(told) or 'none is lost'} ({name})")
    said = f"What would change the answer: where learning never slows down {listed(linear) or 'nothing is known'}; "
    worse = []
    for name, one in factors.items():
        change = _change(one, "err_goodness")
        if one.value(DEPRIVED, "err_goodness") is None:  # without labels there is no such error
            continue
        if change is None:
            worse.append(f"networks are lost ({in_words(name)})")
        elif change.low > (OUTCOMES["err_goodness"].margin or 0):
            worse.append(f"{number(change.mean, 1, True)} ({in_words(name)})")
    if worse:
        said += f"with one factor changed deprivation raises the error by more than a point: {listed(worse)}; "
    elif factors:
        said += "with no factor changed is a rise of the error by more than a point shown; "
    return f"{said}wider and deeper nets, and harder images, were not tried."


def across(studies: Mapping[str, Measured]) -> str:
    """A table with a row for each outcome and a column for each population."""
    rows = [
        [OUTCOMES[outcome].label, *(_cell(one, outcome) for one in studies.values())]
        for outcome in IN_TABLE
        if any(_change(one, outcome) is not None for one in studies.values())
    ]
    return markdown_table(["", *studies], rows)


def down(factors: Mapping[str, Measured]) -> str:
    """A table with a row for each population: how it was, what deprivation changes, and what brings that back."""
    heads = [
        "",
        "error of control, %",
        *(OUTCOMES[outcome].label for outcome in OF_FACTORS),
        "law of hallucinations",
        "sleep takes away, %",
        "scaling takes away, %",
    ]
    return markdown_table(heads, [_row(name, one) for name, one in factors.items()])


def _row(name: str, one: Measured) -> list[str]:
    found = response(one, "fp_neg")
    shares = [_removed(one, condition) for condition in ("recovered", "scaling")]
    return [
        in_words(name),
        UNKNOWN if one.value(CONTROL, "err_goodness") is None else number(_mean(one, CONTROL, "err_goodness"), 1),
        *(_cell(one, outcome) for outcome in OF_FACTORS),
        UNKNOWN if found is None or found.winner is None else in_words(found.winner),
        *(UNKNOWN if share is None else number(100 * share, 0) for share in shares),
    ]


def _cell(one: Measured, outcome: str) -> str:
    change = _change(one, outcome)
    if change is None:
        return UNKNOWN
    digits = OUTCOMES[outcome].digits
    return f"{number(change.mean, digits, True)} [{number(change.low, digits)}, {number(change.high, digits)}]"


def _each(studies: Mapping[str, Measured], outcome: str) -> str:
    """What deprivation changed in an outcome, in each population."""
    changes = [_change(one, outcome) for one in studies.values()]
    digits = OUTCOMES[outcome].digits
    return listed([number(change.mean, digits, True) if change else "an unknown amount" for change in changes])


def _change(one: Measured, outcome: str) -> Effect | None:
    """The effect of deprivation; None where either was not measured, or not in every subject."""
    after, before = one.value(DEPRIVED, outcome), one.value(IN_TABLE[outcome], outcome)
    if after is None or before is None or not np.isfinite([after, before]).all():
        return None
    return effect(after, before)


def _mean(one: Measured, condition: str, outcome: str) -> float:
    return float(one.value(condition, outcome).mean())


def _removed(one: Measured, condition: str) -> float | None:
    """Share of the mean excess of hallucinations over the control that is not there; NaN where none is sure."""
    if not one.has(condition):
        return None
    usual = one.value(CONTROL, "fp_neg")
    return share_removed(one.value(DEPRIVED, "fp_neg") - usual, one.value(condition, "fp_neg") - usual).mean


def _percent(share: float) -> str:
    return "a share that is not told" if np.isnan(share) else f"{100 * share:.0f} %"
