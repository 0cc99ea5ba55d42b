"""The paper's two open questions about sleep (section 9), each answered in five sentences from kept results files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
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
FACTORS = ("sleep_deprivation_full_feedforward.h5", "sleep_deprivation_full_factors.h5")  # as they are, and changed
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


def markdown(folder: Path = FOLDER) -> str:
    """Both questions with their answers, from the results files of a folder; empty where there are none."""
    parts = []
    if (path := folder / SEPARATION).is_file():
        parts.append("**Can the positive and negative passes be very widely separated in time?**")
        wider = folder / WIDER
        parts.append(" ".join(of_separation(path, wider if wider.is_file() else None)))
    if files := [folder / name for name in DEPRIVATION if (folder / name).is_file()]:
        parts.append(
            "**If the negative phase is eliminated for a while, do the effects mimic those of sleep deprivation?**"
        )
        # Each read by itself, so that populations go by their variant's name.
        factors = [folder / name for name in FACTORS if (folder / name).is_file()]
        main, others = ([one for path in paths for one in read([path])] for paths in (files, factors))
        parts.append(" ".join(of_deprivation(main, others)))
    return "\n\n".join(parts)


def of_separation(path: Path, wider: Path | None = None) -> Iterator[str]:
    """Five sentences on how far apart the phases may lie, from a results file of ``separated_phases``.

    wider  one of its preset with longer turns and both signs, for the last sentence

    Their words follow the numbers. They speak of cells of two cycles or more, one alone being no alternation yet, whose
    control does not fail by itself.
    """
    with open_file(path) as file:
        protocol = from_json(file.attrs["settings"])
        variant = next(iter(protocol.variants))
        found, steps = separation.cells(file, variant), separation.common_mode_steps(file, variant)
    grown = [cell for cell in found if cell.baseline == "none" and cell.start is not None and cell.cycles > 1]
    grown = [cell for cell in grown if not cell.control_fails]
    of_rate = {rate: [c for c in grown if c.learning_rate == rate] for rate in sorted({c.learning_rate for c in grown})}
    yield from _which_rates(
        of_rate, protocol, f"{protocol.subjects} subjects of {_named(protocol)}, goodness {variant}"
    )
    fit, counts = separation.collapse_of(found, steps), separation.predictions(found, steps)
    (right, tolerated), (wrong, failed) = counts["tolerated"], counts["fails"]
    block, step, product = (
        f"{100 * fit.residual[axis]:.0f} %" if fit else UNKNOWN for axis in ("block", "step", "block x step")
    )
    yield (
        "Call k the shift of the goodness of everything in one update of a single phase, as a share of the difference "
        f"between real and wrong: of the variance of error, {block} is left once a rising curve over the length of a "
        f"turn is taken away, {step} with one over k, and {product} with one over their product; where that product "
        "is below 0.2, or the gradient averaged over more than four turns, separation is tolerated (error within 1 "
        f"point) in {right} of {tolerated} combinations, and where it is above 2 and the average shorter, it fails in "
        f"{wrong} of {failed}."
    )
    also = f"{_worst_between(grown)}{_with_baselines(found)}."
    yield also[0].upper() + also[1:]
    yield _wider(wider) if wider else _newborns(found)


def _which_rates(of_rate: dict[float, list[Cell]], protocol: Protocol, shown: str) -> Iterator[str]:
    """Two sentences: up to which learning rate turns are tolerated, and what they cost beyond."""
    safe = list(itertools.takewhile(lambda rate: all(c.verdict == "tolerated" for c in of_rate[rate]), of_rate))
    longest = max(cell.block for cells in of_rate.values() for cell in cells)
    if safe:
        changes = [100 * cell.change().mean for cell in of_rate[safe[-1]]]
        least, most = (number(change, 1, True) for change in (min(changes), max(changes)))
        where = "where learning is slow" if len(safe) < len(of_rate) else "at every learning rate that was tried"
        yield (
            f"Yes, {where}: at a learning rate of {safe[-1]:g} turns of up to {longest} updates of either phase "
            f"changed the error of subjects that had grown up, with weights averaged over a cycle, by {least} to "
            f"{most} points against learning from both at once: they forget nothing ({shown})."
        )
    else:
        yield f"At no learning rate that was tried were all turns of up to {longest} updates tolerated ({shown})."
    failing = {rate: [cell for cell in cells if cell.verdict == "fails"] for rate, cells in of_rate.items()}
    failing = {rate: max(cells, key=_cost) for rate, cells in failing.items() if cells}
    if not failing:
        yield f"None that was tried cost more than {100 * separation.FAILURE:g} points of error for sure."
        return
    development = protocol.stages[protocol.conditions["development"].stages[-1]].plasticity.learning_rate
    ends = [
        f"at {rate:g}{', the rate of development,' if rate == development else ''} turns of {failing[rate].block} "
        f"updates cost {_points(failing[rate].change())} with the gradient averaged over {failing[rate].tau:.0f}"
        for rate in dict.fromkeys((min(failing), max(failing)))
    ]
    yield f"{'No, where it is fast' if safe else 'They fail'}: {', and '.join(ends)}."


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
    errors = ", ".join(f"{100 * e:.1f} % at {t:g}" for t, e in zip(one.taus, one.errors, strict=True))
    return (
        "An average of the gradient that is neither short nor long can be the worst (turns of "
        f"{one.block} at {one.learning_rate:g}: error {errors} updates); "
    )


def _with_baselines(found: Sequence[Cell]) -> str:
    """In how many cells separation is tolerated with a baseline of either kind, and in the same ones without."""
    based = [cell for cell in found if cell.baseline != "none"]
    if not based:
        return "a baseline kept from sleep (note 15) was not tried"
    settings = {(cell.block, cell.learning_rate, cell.tau) for cell in based}
    cells = {kind: [cell for cell in based if cell.baseline == kind] for kind in ("fresh", "stale")}
    cells["none"] = [
        cell
        for cell in found
        if cell.baseline == "none" and cell.start is not None and (cell.block, cell.learning_rate, cell.tau) in settings
    ]
    costs = {
        kind: ", ".join(
            f"{number(100 * cell.change().mean, 1, True)} (turns of {cell.block} at {cell.learning_rate:g})"
            for cell in some
        )
        for kind, some in cells.items()
    }
    return (
        "with the mean gradient of the last sleep added in wake (note 15) turns change the error by "
        f"{costs['fresh']} points, with that of the first sleep by {costs['stale']}, without by {costs['none']}"
    )


def _newborns(found: Sequence[Cell]) -> str:
    """What became of subjects that learned in the longest turns from birth on."""
    born = [cell for cell in found if cell.start is None]
    if not born:
        return "All subjects had grown up with both phases at once; of others the answer might be another."
    longest = max(cell.block for cell in born)
    errors = [
        [100 * float(of(cell).mean()) for cell in born if cell.block == longest]
        for of in (lambda cell: cell.values["averaged"]["err_goodness"], lambda cell: cell.usual["err_goodness"])
    ]
    turns, both = (f"{number(min(some), 0)} to {number(max(some), 0)} %" for some in errors)
    rates = _list([f"{rate:g}" for rate in sorted({cell.learning_rate for cell in born})])
    return (
        "Whether subjects can learn in turns slowly enough, and not only not forget, was not tried; newborns ended at "
        f"an error of {turns} with turns of {longest} updates at a learning rate of {rates}, and of {both} with both "
        "at once."
    )


def _wider(path: Path) -> str:
    """What the longest turns cost grown subjects, and what becomes of newborns that learn slowly in turns."""
    with open_file(path) as file:
        protocol = from_json(file.attrs["settings"])
        found = {variant: separation.cells(file, variant) for variant in protocol.variants}
    every = [cell for cells in found.values() for cell in cells]
    longest = max(cell.block for cell in every if cell.start is not None)
    widest = [cell for cell in every if cell.start is not None and cell.block == longest]
    costs, born = [], []
    for variant, cells in found.items():
        changes = [cell.change() for cell in cells if cell.start is not None and cell.block == longest]
        text = " and ".join(f"{one.lost} networks lost" if one.lost else _effect(_in_points(one), 1) for one in changes)
        costs.append(f"{text} ({variant})")
        for cell in (cell for cell in cells if cell.start is None):
            ends = (cell.values["averaged"]["err_goodness"], cell.usual["err_goodness"])
            turns, both = (number(100 * float(error.mean()), 1) for error in ends)
            born.append(f"{turns} % with turns of {cell.block} against {both} % with both at once ({variant})")
    at, slow = (
        _list([f"{rate:g}" for rate in sorted({cell.learning_rate for cell in some})])
        for some in (widest, [cell for cell in every if cell.start is None])
    )
    averages = _list([f"{tau:.0f}" for tau in sorted({cell.tau for cell in widest})])
    return (
        f"Turns of {longest} updates at a learning rate of {at}, with the gradient averaged over {averages}, changed "
        f"the error of {protocol.subjects} other subjects by {_list(costs)} points; newborns that learned at {slow} "
        f"ended at an error of {_list(born)}."
    )


def of_deprivation(populations: Sequence[Population], factors: Sequence[Population] = ()) -> Iterator[str]:
    """Five sentences on what a missing negative phase does, from results files of ``sleep_deprivation``.

    Their words follow the numbers.

    factors  populations in which one thing is changed, after those in which nothing is
    """
    studies, changed = (
        {
            one.name: Measured(
                dataclasses.replace(one, courses={name: one.courses[name] for name in NEEDED if name in one.courses})
            )
            for one in some
            if {CONTROL, DEPRIVED} <= one.courses.keys()
        }
        for some in (populations, factors)
    )
    yield _hallucinations(studies)
    yield _criterion(studies)
    yield _signs_of_sleep_loss(studies)
    yield _what_sleep_does(studies)
    yield _what_may_change_it(studies, changed)


def _hallucinations(studies: Mapping[str, Measured]) -> str:
    shares = [
        f"{number(_mean(one, DEPRIVED, 'fp_neg'), 1)} against {number(_mean(one, CONTROL, 'fp_neg'), 1)} % ({name})"
        for name, one in studies.items()
    ]
    rise = [_change(one, "fp_neg") for one in studies.values()]
    more = all(change is not None and change.low > 0 for change in rise)
    laws = {name: found for name, one in studies.items() if (found := response(one, "fp_neg")) and found.winner}
    slows = len(laws) == len(studies) and all(
        found.winner in SLOWING and found.against_linear > DECISIVE for found in laws.values()
    )
    course = "its course follows no law for sure that slows down"
    if slows:
        course = "it grows ever more slowly, not in proportion to time awake as lapses do in people"
    fits = [f"{found.winner}, the line's AICc +{found.against_linear:.0f} ({name})" for name, found in laws.items()]
    protocols = [one.population.protocol for one in studies.values()]
    subjects, images = ({of(one) for one in protocols} for of in (lambda p: p.subjects, _named))
    lived = {int(one.courses[DEPRIVED].updates[-1]) for one in studies.values()}
    return (
        f"{'In part: a' if more else 'A'}fter {_one_of(lived)} updates without negative data "
        f"{_one_of(subjects)} subjects of {_one_of(images)} in each population take this share of wrong labels for "
        f"real, against those that kept both phases: {_list(shares)}; {course} (best: {_list(fits) or 'not told'})."
    )


def _criterion(studies: Mapping[str, Measured]) -> str:
    pairs = [[_change(one, name) for name in ("criterion", "dprime")] for one in studies.values()]
    mostly = all(None not in pair and abs(pair[0].mean) > abs(pair[1].mean) for pair in pairs)
    return (
        f"{'What moves more is the criterion' if mostly else 'The criterion moves'}, by {_each(studies, 'criterion')}; "
        f"d′ changed by {_each(studies, 'dprime')}, the error by {_each(studies, 'err_goodness')} points."
    )


def _signs_of_sleep_loss(studies: Mapping[str, Measured]) -> str:
    lapses = [_change(one, "lapse_absolute", against=BEFORE) for one in studies.values()]
    rise = [_change(one, "fp_neg") for one in studies.values()]
    if None in lapses or None in rise:
        lead = ""
    elif all(change.low > 0 for change in rise) and not any(change.low > 0 for change in lapses):
        lead = "It is not as in people, who lapse early and hallucinate late: "
    else:
        lead = "People lapse early and hallucinate late: here "
    up = [
        name
        for name, one in studies.items()
        if all((change := _change(one, outcome)) is not None and change.low > 0 for outcome in PHYSIOLOGY)
    ]
    return (
        f"{lead}in the vigilance task lapses changed by {_each(studies, 'lapse_absolute', BEFORE)} points and false "
        f"starts by {_each(studies, 'false_start_absolute', BEFORE)} points; mean rate changed by "
        f"{_each(studies, 'rate')}, and rate, evoked slope and energy all rise, as in sleep-deprived cortex, in "
        f"{_list(up) or 'no population'}."
    )


def _what_sleep_does(studies: Mapping[str, Measured]) -> str:
    removed = {
        condition: {name: share for name, one in studies.items() if (share := _removed(one, condition)) is not None}
        for condition in ("recovered", "scaling", "other_synapses")
    }
    texts = {
        condition: _list([f"{_percent(share)} ({name})" for name, share in shares.items()]) or "not known"
        for condition, shares in removed.items()
    }
    left = [f"{_percent(1 - share)} ({name})" for name, share in removed["other_synapses"].items()]
    slept = {int(one.courses["recovered"].updates[-1]) for one in studies.values() if one.has("recovered")}
    return (
        f"Of the excess of hallucinations {_one_of(slept)} updates of sleep with negative data take away "
        f"{texts['recovered']}, and scaling of the synapses alone {texts['scaling']}; giving each change of "
        f"deprivation to another synapse instead makes {_list(left) or 'an unknown share'} of that excess: so much of "
        "it comes of changes of that size at any synapses."
    )


def _what_may_change_it(studies: Mapping[str, Measured], factors: Mapping[str, Measured]) -> str:
    linear = []
    for name, one in studies.items():
        if "deprived_linear" in one.divergence:
            diverged, silent = (lives["deprived_linear"] for lives in (one.divergence, one.silence))
            linear.append(
                f"{diverged.lost.sum()} of {diverged.lost.size} diverge and {(silent.lost & ~diverged.lost).sum()} "
                f"fall silent by {diverged.watched} updates ({name})"
            )
    said = f"With an objective that does not saturate {_list(linear) or 'nothing is known'}; "
    if factors:
        moved = {name: _change(one, "err_goodness") for name, one in factors.items()}
        more = [name for name, change in moved.items() if change is not None and change.low > _margin("err_goodness")]
        lose = (
            f"{_list([_in_words(name) for name in more])} lose more than a point of error" if more else "none is lost"
        )
        said += (
            f"with one thing changed in feed-forward nets the error changes by {_each(factors, 'err_goodness')} points "
            f"and hallucinations by {_each(factors, 'fp_neg')} points: {lose}; "
        )
    return f"{said}wider and deeper nets, and harder images, were not tried and might change the answer."


def _margin(outcome: str) -> float:
    return OUTCOMES[outcome].margin or 0.0


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def _each(studies: Mapping[str, Measured], outcome: str, against: str = CONTROL) -> str:
    """What deprivation changed in an outcome, in each population."""
    digits = OUTCOMES[outcome].digits
    changes = {name: _change(one, outcome, against) for name, one in studies.items()}
    return _list(
        [
            f"{_effect(change, digits) if change else 'an unknown amount'} ({_in_words(name)})"
            for name, change in changes.items()
        ]
    )


def _change(one: Measured, outcome: str, against: str = CONTROL) -> Effect | None:
    """The effect of deprivation; None where either was not measured, or not in every subject."""
    after, before = one.value(DEPRIVED, outcome), one.value(against, outcome)
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


def _effect(found: Effect, digits: int) -> str:
    return f"{number(found.mean, digits, True)} [{number(found.low, digits)}, {number(found.high, digits)}]"


def _in_points(found: Effect) -> Effect:
    return dataclasses.replace(found, mean=100 * found.mean, low=100 * found.low, high=100 * found.high)


def _points(found: Effect) -> str:
    if found.lost:
        return f"{found.lost} of {found.n} subjects"
    return (
        f"{number(100 * found.mean, 0)} [{number(100 * found.low, 0)}, {number(100 * found.high, 0)}] points of error"
    )


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:-1]) + f" and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def _named(protocol: Protocol) -> str:
    """The image set as it is spelled in a sentence."""
    return {"digits": "the digits"}.get(protocol.stimuli.images, protocol.stimuli.images.upper())
