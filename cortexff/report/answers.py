"""The paper's two open questions about sleep (section 9), each answered in five sentences from kept results files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cortexff.analysis import separation
from cortexff.analysis.statistics import Effect, effect
from cortexff.log import open_file
from cortexff.protocol.loading import from_json
from cortexff.report.findings import CONTROL, DEPRIVED, share_removed
from cortexff.report.outcomes import BEFORE, OUTCOMES, Measured
from cortexff.report.study import Population, read
from cortexff.report.words import number

FOLDER = Path("results") / "sleep"
# The main run, and that of a net with both signs of goodness; the others are in the report.
DEPRIVATION = ("sleep_deprivation_full.h5", "sleep_deprivation_full_mixed.h5")
SEPARATION = "separated_phases_default.h5"
NEEDED = (
    "development",
    CONTROL,
    DEPRIVED,
    BEFORE,
    "recovered",
    "scaling",
    "noise",
    "other_synapses",
    "deprived_linear",
)


def markdown(folder: Path = FOLDER) -> str:
    """Both questions with their answers, from the results files of a folder; empty where there are none."""
    parts = []
    if (path := folder / SEPARATION).is_file():
        parts.append("**Can the positive and negative passes be very widely separated in time?**")
        parts.append(" ".join(of_separation(path)))
    if files := [folder / name for name in DEPRIVATION if (folder / name).is_file()]:
        parts.append(
            "**If the negative phase is eliminated for a while, do the effects mimic those of sleep deprivation?**"
        )
        # Each read by itself, so that populations go by their variant's name.
        parts.append(" ".join(of_deprivation([one for path in files for one in read([path])])))
    return "\n\n".join(parts)


def of_separation(path: Path) -> Iterator[str]:
    """Five sentences on how far apart the phases may lie, from a results file of ``separated_phases``."""
    with open_file(path) as file:
        protocol = from_json(file.attrs["settings"])
        variant = next(iter(protocol.variants))
        found, steps = separation.cells(file, variant), separation.common_mode_steps(file, variant)
    plain = [cell for cell in found if cell.baseline == "none" and cell.start is not None and not cell.control_fails]
    rates = sorted({cell.learning_rate for cell in plain})
    of_rate = {rate: [cell for cell in plain if cell.learning_rate == rate] for rate in rates}
    safe = [rate for rate in rates if all(cell.verdict == "tolerated" for cell in of_rate[rate])]
    lost = [rate for rate in rates if any(cell.verdict == "fails" for cell in of_rate[rate])]
    longest = max(cell.block for cell in plain)
    shown = f"{protocol.subjects} subjects of {protocol.stimuli.images}, goodness {variant}"
    if safe:
        changes = [100 * cell.change().mean for cell in of_rate[safe[-1]]]
        yield (
            f"Yes, where learning is slow: at a learning rate of {safe[-1]:g} turns of up to {longest} updates of "
            f"either phase changed the error by {number(min(changes), 1, True)} to {number(max(changes), 1, True)} "
            f"points against subjects that learn from both at once, whatever the average of the gradient ({shown})."
        )
    else:
        yield f"At no learning rate that was tried were turns of up to {longest} updates without cost ({shown})."
    if lost:
        worst = max(of_rate[lost[0]], key=lambda cell: cell.change().mean)
        grown = protocol.stages[protocol.conditions["development"].stages[-1]].plasticity.learning_rate
        fastest = max(of_rate[rates[-1]], key=lambda cell: cell.change().mean)
        yield (
            f"No, where it is fast: at {lost[0]:g} turns of {worst.block} updates cost up to "
            f"{_points(worst.change())}, and at {rates[-1]:g}"
            f"{', the rate of development,' if rates[-1] == grown else ''} turns of {fastest.block} cost "
            f"{_points(fastest.change())}."
        )
    fit, counts = separation.collapse_of(found, steps), separation.predictions(found, steps)
    (right, tolerated), (wrong, failed) = counts["tolerated"], counts["fails"]
    yield (
        "What decides is above all the length of a turn times how far one update of a single phase shifts the "
        "goodness of everything, as a share of the difference between real and wrong: error as a rising function of "
        f"that product leaves {100 * fit.residual['block x step']:.0f} % of its variance, of the length alone "
        f"{100 * fit.residual['block']:.0f} %; where the product, or the length against the average of the gradient, "
        f"says that separation is tolerated, it is in {right} of {tolerated} cells, and where they say that it "
        f"fails, it does in {wrong} of {failed}."
    )
    peaks = [one for one in separation.resonances(found) if one.interior > 0.95 and one.learning_rate in lost + safe]
    between = max(peaks, key=lambda one: one.interior, default=None)
    base = [cell for cell in found if cell.baseline != "none"]
    tolerates = {kind: [cell for cell in base if cell.baseline == kind] for kind in ("fresh", "stale")}
    kept = {kind: sum(cell.verdict == "tolerated" for cell in cells) for kind, cells in tolerates.items()}
    without = [
        cell
        for cell in plain
        if any((cell.block, cell.learning_rate, cell.tau) == (b.block, b.learning_rate, b.tau) for b in base)
    ]
    averaged = ""
    if between is not None:
        errors = ", ".join(f"{100 * e:.1f} % at {t:g}" for t, e in zip(between.taus, between.errors, strict=True))
        averaged = (
            f"Averaging the gradient over about as many updates as a turn makes it worse (turns of {between.block} at "
            f"{between.learning_rate:g}: error {errors} updates); "
        )
    yield (
        f"{averaged}a baseline kept from sleep (note 15) makes little difference to what is tolerated: "
        f"{kept['fresh']} of "
        f"{len(tolerates['fresh'])} cells with the last sleep's, {kept['stale']} of {len(tolerates['stale'])} with the "
        f"first's, {sum(cell.verdict == 'tolerated' for cell in without)} of {len(without)} without."
    )
    yield (
        "The answer would change if a net learned as much, as fast, at rates at which turns are tolerated: here they "
        "were tolerated by subjects that had grown up with both phases at once, and newborns with turns of "
        f"{max(cell.block for cell in found if cell.start is None)} updates did not learn at the rate of development."
    )


def of_deprivation(populations: Sequence[Population]) -> Iterator[str]:
    """Five sentences on what a missing negative phase does, from results files of ``sleep_deprivation``."""
    studies = {
        one.name: Measured(
            dataclasses.replace(one, courses={name: one.courses[name] for name in NEEDED if name in one.courses})
        )
        for one in populations
        if {CONTROL, DEPRIVED} <= one.courses.keys()
    }

    def each(words: str, outcome: str, condition: str = DEPRIVED, against: str = CONTROL) -> str:
        found = {name: _change(one, outcome, condition, against) for name, one in studies.items()}
        digits = OUTCOMES[outcome].digits
        texts = [f"{_effect(change, digits)} ({name})" for name, change in found.items() if change is not None]
        return f"{words} by {_list(texts)}"

    first = next(iter(studies.values()))
    updates, protocol = int(first.courses[DEPRIVED].updates[-1]), first.population.protocol
    shares = [
        f"{_mean(one, DEPRIVED, 'fp_neg'):.1f} against {_mean(one, CONTROL, 'fp_neg'):.1f} % ({name})"
        for name, one in studies.items()
    ]
    yield (
        f"In part: after {updates} updates without negative data {protocol.subjects} subjects of "
        f"{protocol.stimuli.images} in each population take wrong labels for real more often than those that kept "
        f"both phases, {_list(shares)}; this grows ever more slowly, not in proportion to time awake as lapses do in "
        "people."
    )
    yield (
        f"What moves is the criterion, {each('', 'criterion').strip()}, far more than what subjects can tell apart: "
        f"{each('d′ changed', 'dprime')}, {each('the error', 'err_goodness')} points."
    )
    timed = {name: _change(one, "lapse_absolute", DEPRIVED, BEFORE) for name, one in studies.items()}
    starts = {name: _change(one, "false_start_absolute", DEPRIVED, BEFORE) for name, one in studies.items()}
    lapses = _list([f"{_effect(change, 1)} ({name})" for name, change in timed.items() if change is not None])
    early = _list([f"{_effect(change, 1)} ({name})" for name, change in starts.items() if change is not None])
    yield (
        "It is the reverse of the course in people, who lapse early and hallucinate late: in the vigilance task lapses "
        f"changed by {lapses} points and false starts by {early} points; and activity, excitability and energy rise, "
        f"as in sleep-deprived cortex, only where high activity means real ({each('mean rate', 'rate')})."
    )
    removed = []
    for condition, words in (("recovered", "negative data"), ("scaling", "scaling of the synapses alone")):
        parts = [
            f"{100 * share:.0f} % ({name})"
            for name, one in studies.items()
            if (share := _removed(one, condition)) is not None
        ]
        removed.append(f"{words} {_list(parts)}")
    slept = int(first.courses["recovered"].updates[-1])
    other = [
        f"{100 * (_mean(one, 'other_synapses', 'fp_neg') - _mean(one, CONTROL, 'fp_neg')) / excess:.0f} % ({name})"
        for name, one in studies.items()
        if "other_synapses" in one.courses
        and (excess := _mean(one, DEPRIVED, "fp_neg") - _mean(one, CONTROL, "fp_neg"))
    ]
    yield (
        f"{slept} updates of sleep undo the excess of hallucinations ({'; '.join(removed)}), and giving each change "
        f"of deprivation to another synapse instead makes {_list(other)} of that excess: that share of it is a general "
        "drift of drive, not something that was learned."
    )
    linear = []
    for name, one in studies.items():
        if "deprived_linear" in one.courses:
            lost = [lives["deprived_linear"].lost for lives in (one.divergence, one.silence)]
            linear.append(
                f"{name}: {lost[0].sum()} of {lost[0].size} diverge, {(lost[1] & ~lost[0]).sum()} fall silent"
            )
    yield (
        f"The answer would change with an objective that does not saturate ({'; '.join(linear)}), a catastrophe where "
        "the log-sigmoid bounds the harm; with real data that are mislabelled; or with wider and deeper nets on harder "
        "images, which were not tried."
    )


def _change(one: Measured, outcome: str, condition: str, against: str) -> Effect | None:
    """The effect within subjects; None where either was not measured, or not in every subject."""
    after, before = one.value(condition, outcome), one.value(against, outcome)
    if after is None or before is None or not np.isfinite([after, before]).all():
        return None
    return effect(after, before)


def _mean(one: Measured, condition: str, outcome: str) -> float:
    return float(one.value(condition, outcome).mean())


def _removed(one: Measured, condition: str) -> float | None:
    """Share of the mean excess of hallucinations over the control that a kind of sleep takes away."""
    if condition not in one.courses:
        return None
    usual = one.value(CONTROL, "fp_neg")
    return share_removed(one.value(DEPRIVED, "fp_neg") - usual, one.value(condition, "fp_neg") - usual).mean


def _effect(found: Effect, digits: int) -> str:
    return f"{number(found.mean, digits, True)} [{number(found.low, digits)}, {number(found.high, digits)}]"


def _points(found: Effect) -> str:
    if found.lost:
        return f"{found.lost} of {found.n} subjects"
    return (
        f"{number(100 * found.mean, 0)} [{number(100 * found.low, 0)}, {number(100 * found.high, 0)}] points of error"
    )


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:-1]) + f" and {texts[-1]}" if len(texts) > 1 else "".join(texts)
