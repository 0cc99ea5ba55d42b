"""The paper's two open questions about sleep (section 9), each answered in five sentences from kept results files.

The sentences follow the numbers; tables below them have the intervals.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cortexff.analysis import separation
from cortexff.analysis.separation import Cell
from cortexff.analysis.statistics import Effect, effect
from cortexff.log import open_file
from cortexff.protocol.loading import from_json
from cortexff.protocol.schedule import Protocol
from cortexff.report.findings import CONTROL, DEPRIVED, response, share_removed
from cortexff.report.outcomes import BEFORE, OUTCOMES, Measured
from cortexff.report.scorecard import DECISIVE
from cortexff.report.study import Population, read
from cortexff.report.words import UNKNOWN, number

FOLDER = Path("results") / "sleep"
# The main run, and that of a net with both signs of goodness; the others are in the report.
DEPRIVATION = ("sleep_deprivation_full.h5", "sleep_deprivation_full_mixed.h5")
FEEDFORWARD, FACTORS = "sleep_deprivation_full_feedforward.h5", "sleep_deprivation_full_factors.h5"
HYBRIDS = "sleep_without_labels_full.h5"
SEPARATION, WIDER = "separated_phases_default.h5", "separated_phases_full.h5"
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
        parts.append(_across(studies))
        if changed:
            parts.append("The same in feed-forward nets, and with one factor changed in them:")
            parts.append(_down(unchanged | changed))
    return "\n\n".join(parts)


def of_separation(path: Path, wider: Path | None = None) -> Iterator[str]:
    """Five sentences on how far apart the phases may lie, from a results file of ``separated_phases``.

    They speak of cells of two cycles or more, one alone being no alternation yet, whose control does not fail by
    itself.

    wider  a results file of its preset with longer turns and both signs, for subjects of its own
    """
    protocol, cells = _cells(path)
    (variant, found), *_ = cells.items()
    others, other_cells = _cells(wider) if wider else (None, {})
    with open_file(path) as file:
        steps = separation.common_mode_steps(file, variant)
    grown = [c for c in found if c.baseline == "none" and c.start is not None and c.cycles > 1 and not c.control_fails]
    of_rate = {rate: [c for c in grown if c.learning_rate == rate] for rate in sorted({c.learning_rate for c in grown})}
    safe = list(itertools.takewhile(lambda rate: all(c.verdict == "tolerated" for c in of_rate[rate]), of_rate))
    shown = f"{protocol.subjects} subjects of {_named(protocol)}; weights averaged over a cycle of both phases"
    yield _where_it_is_safe(of_rate, safe, shown, others, other_cells)
    yield _where_it_fails(of_rate, safe, protocol)
    (right, tolerated), (wrong, failed) = separation.predictions(found, steps).values()
    yield (
        "What decides is how far a turn shifts the goodness of everything, in units of the difference between real and "
        f"wrong: where that is below 0.2, or the gradient averaged over more than four turns, separation is tolerated "
        f"in {right} of {tolerated} combinations, and where it is above 2 and the average shorter, it fails in {wrong} "
        f"of {failed}."
    )
    also = f"{_worst_between(grown)}{_with_baselines([found, *other_cells.values()])}."
    yield also[0].upper() + also[1:]
    yield _newborns(other_cells if any(c.start is None for some in other_cells.values() for c in some) else cells)


def _cells(path: Path) -> tuple[Protocol, dict[str, list[Cell]]]:
    """The protocol of a file, and the cells of each variant."""
    with open_file(path) as file:
        protocol = from_json(file.attrs["settings"])
        return protocol, {variant: separation.cells(file, variant) for variant in protocol.variants}


def _where_it_is_safe(
    of_rate: Mapping[float, Sequence[Cell]],
    safe: Sequence[float],
    shown: str,
    others: Protocol | None,
    other_cells: Mapping[str, Sequence[Cell]],
) -> str:
    longest = max(cell.block for cells in of_rate.values() for cell in cells)
    if not safe:
        said = f"At no learning rate that was tried were all turns of up to {longest} updates tolerated ({shown})"
    else:
        where = "where learning is slow" if len(safe) < len(of_rate) else "at every learning rate that was tried"
        said = (
            f"Yes, {where}: at a learning rate of {safe[-1]:g} turns of up to {longest} updates changed the error of "
            f"grown subjects by {_range(of_rate[safe[-1]])} points against learning from both at once ({shown})"
        )
    grown = [cell for cells in other_cells.values() for cell in cells if cell.start is not None]
    if not grown:
        return f"{said}."
    widest = [cell for cell in grown if cell.block == max(one.block for one in grown)]
    by_rate = [
        f"{_range([cell for cell in widest if cell.learning_rate == rate])} points at {rate:g}"
        for rate in sorted({cell.learning_rate for cell in widest})
    ]
    more = f"turns of {widest[0].block} that of {others.subjects} others ({_list(list(other_cells))}) by"
    return f"{said}, and {more} {_list(by_rate)}."


def _range(cells: Sequence[Cell]) -> str:
    """Least and most mean change of error, in points; lost networks first."""
    changes = [cell.change() for cell in cells]
    means = [100 * change.mean for change in changes if not change.lost]
    lost = sum(change.lost for change in changes)
    said = [f"the loss of {lost} networks"] * (lost > 0)
    if means:
        said.append(_span(means, signed=True))
    return " and ".join(said)


def _span(values: Sequence[float], signed: bool = False) -> str:
    """The least and the greatest; once where they are alike."""
    return " to ".join(dict.fromkeys(number(one, 1, signed) for one in (min(values), max(values))))


def _where_it_fails(of_rate: Mapping[float, Sequence[Cell]], safe: Sequence[float], protocol: Protocol) -> str:
    failing = {rate: [cell for cell in cells if cell.verdict == "fails"] for rate, cells in of_rate.items()}
    failing = {rate: max(cells, key=_cost) for rate, cells in failing.items() if cells}
    if not failing:
        return f"None that was tried cost more than {100 * separation.FAILURE:g} points of error for sure."
    development = protocol.stages[protocol.conditions["development"].stages[-1]].plasticity.learning_rate
    ends = [
        f"at {rate:g}{', the rate of development,' if rate == development else ''} turns of {failing[rate].block} "
        f"cost {_points(failing[rate].change())}"
        for rate in dict.fromkeys((min(failing), max(failing)))
    ]
    return f"{'No, where it is fast' if safe else 'They fail'}: {', and '.join(ends)}."


def _cost(cell: Cell) -> float:
    """Of error, against the control; a lost network costs most."""
    change = cell.change()
    return float("inf") if change.lost else change.mean


def _worst_between(grown: Sequence[Cell]) -> str:
    """Where an average of the gradient is worse than a shorter and a longer one, by 2 points; empty if nowhere."""
    peaks = [
        one
        for one in separation.resonances(grown)
        if one.interior > 0.95 and one.errors.max() - max(one.errors[0], one.errors[-1]) > separation.FAILURE
    ]
    if not peaks:
        return ""
    one = max(peaks, key=lambda one: one.interior)
    errors, taus = (_list(texts) for texts in ([f"{100 * e:.1f}" for e in one.errors], [f"{t:g}" for t in one.taus]))
    return (
        f"an average of the gradient that is neither short nor long can be the worst (turns of {one.block} at "
        f"{one.learning_rate:g}: error {errors} % with averages over {taus} updates), and "
    )


def _with_baselines(groups: Sequence[Sequence[Cell]]) -> str:
    """How often a baseline of either kind brings error down or up by 2 points, against turns without.

    groups  cells of a variant each
    """
    gains: dict[str, list[float]] = {"fresh": [], "stale": []}
    for cells in groups:
        plain = {
            (cell.block, cell.learning_rate, cell.tau): cell
            for cell in cells
            if cell.baseline == "none" and cell.start is not None
        }
        for cell in (cell for cell in cells if cell.baseline != "none"):
            gains[cell.baseline].append(_cost(plain[cell.block, cell.learning_rate, cell.tau]) - _cost(cell))
    if not any(gains.values()):
        return "a baseline kept from sleep (note 15) was not tried"
    fresh, stale = (
        f"lower in {sum(gain > separation.FAILURE for gain in some)} and higher in "
        f"{sum(-gain > separation.FAILURE for gain in some)} of {len(some)} combinations"
        for some in gains.values()
    )
    return (
        f"the mean gradient of the last sleep, added in wake (note 15), makes error {fresh}, that of the first sleep "
        f"{stale}"
    )


def _newborns(cells: Mapping[str, Sequence[Cell]]) -> str:
    """What became of subjects that learned in turns from birth on."""
    born = [cell for some in cells.values() for cell in some if cell.start is None]
    if not born:
        return "All subjects had grown up with both phases at once; of others the answer might be another."
    blocks, rates = ({of(cell) for cell in born} for of in (lambda cell: cell.block, lambda cell: cell.learning_rate))
    ends = []
    for variant, some in cells.items():
        mine = [cell for cell in some if cell.start is None]
        turns = _span([100 * float(cell.values["averaged"]["err_goodness"].mean()) for cell in mine])
        both = _span([100 * float(cell.usual["err_goodness"].mean()) for cell in mine])
        ends.append(f"{turns} % against {both} % with both at once ({variant})")
    slow, long = (_list([f"{one:g}" for one in sorted(some)]) for some in (rates, blocks))
    return (
        f"Newborns that learned at {slow} in turns of {long} updates ended at an error of {_list(ends)}; slower "
        "learning over a longer childhood, deeper nets and harder images were not tried and might change the answer."
    )


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
        _list([number(_mean(one, condition, "fp_neg"), 1) for one in studies.values()])
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
    subjects, images = ({of(one) for one in protocols} for of in (lambda p: p.subjects, _named))
    lived = {int(one.courses[DEPRIVED].updates[-1]) for one in studies.values()}
    return (
        f"{'In part: a' if more else 'A'}fter {_one_of(lived)} updates without negative data {_one_of(subjects)} "
        f"subjects of {_one_of(images)} take {after} % of wrong labels for real ({_list(list(studies))}) against "
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
        f"in sleep-deprived cortex, in {_list(up) or 'no population'}."
    )


def _what_sleep_does(studies: Mapping[str, Measured]) -> str:
    def shares(condition: str, of: Callable[[float], float] = lambda share: share) -> str:
        found = [_removed(one, condition) for one in studies.values()]
        known = ["an unknown share" if one is None else _percent(of(one)) for one in found]
        return _list(known) if any(one is not None for one in found) else "an unknown share"

    slept = {int(one.courses["recovered"].updates[-1]) for one in studies.values() if one.has("recovered")}
    return (
        f"Of the excess of hallucinations {_one_of(slept)} updates of sleep take away {shares('recovered')}, and "
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
            linear.append(f"{_list(told) or 'none is lost'} ({name})")
    said = f"What would change the answer: where learning never slows down {_list(linear) or 'nothing is known'}; "
    worse = []
    for name, one in factors.items():
        change = _change(one, "err_goodness")
        if one.value(DEPRIVED, "err_goodness") is None:  # without labels there is no such error
            continue
        if change is None:
            worse.append(f"networks are lost ({_in_words(name)})")
        elif change.low > (OUTCOMES["err_goodness"].margin or 0):
            worse.append(f"{number(change.mean, 1, True)} ({_in_words(name)})")
    if worse:
        said += f"with one factor changed deprivation raises the error by more than a point: {_list(worse)}; "
    elif factors:
        said += "with no factor changed is a rise of the error by more than a point shown; "
    return f"{said}wider and deeper nets, and harder images, were not tried."


def _across(studies: Mapping[str, Measured]) -> str:
    """A table with a row for each outcome and a column for each population."""
    rows = [
        [OUTCOMES[outcome].label, *(_cell(one, outcome) for one in studies.values())]
        for outcome in IN_TABLE
        if any(_change(one, outcome) is not None for one in studies.values())
    ]
    return _table(["", *studies], rows)


def _down(factors: Mapping[str, Measured]) -> str:
    """A table with a row for each population: how it was, what deprivation changes, and what brings that back."""
    heads = [
        "",
        "error of control, %",
        *(OUTCOMES[outcome].label for outcome in OF_FACTORS),
        "law of hallucinations",
        "sleep takes away, %",
        "scaling takes away, %",
    ]
    return _table(heads, [_row(name, one) for name, one in factors.items()])


def _row(name: str, one: Measured) -> list[str]:
    found = response(one, "fp_neg")
    shares = [_removed(one, condition) for condition in ("recovered", "scaling")]
    return [
        _in_words(name),
        UNKNOWN if one.value(CONTROL, "err_goodness") is None else number(_mean(one, CONTROL, "err_goodness"), 1),
        *(_cell(one, outcome) for outcome in OF_FACTORS),
        UNKNOWN if found is None or found.winner is None else _in_words(found.winner),
        *(UNKNOWN if share is None else number(100 * share, 0) for share in shares),
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
    return _list([number(change.mean, digits, True) if change else "an unknown amount" for change in changes])


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


def _one_of(values: Collection[int | str]) -> str:
    return " or ".join(map(str, sorted(values)))


def _points(found: Effect) -> str:
    if found.lost:
        return f"{found.lost} of {found.n} subjects"
    return (
        f"{number(100 * found.mean, 0)} [{number(100 * found.low, 0)}, {number(100 * found.high, 0)}] points of error"
    )


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:-1]) + f" and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def _named(protocol: Protocol) -> str:
    """The image set as it is spelled in a sentence."""
    return {"digits": "the digits"}.get(protocol.stimuli.images, protocol.stimuli.images.upper())
