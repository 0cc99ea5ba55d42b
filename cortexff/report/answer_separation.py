"""Can the phases be very widely separated in time? Five sentences, from kept results files (section 9)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cortexff.analysis import separation
from cortexff.analysis.separation import Cell
from cortexff.analysis.statistics import Effect
from cortexff.log import open_file
from cortexff.protocol.loading import from_json
from cortexff.protocol.schedule import Protocol
from cortexff.report.words import listed, named, number, span


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
    shown = f"{protocol.subjects} subjects of {named(protocol)}; weights averaged over a cycle of both phases"
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
    more = f"turns of {widest[0].block} that of {others.subjects} others ({listed(list(other_cells))}) by"
    return f"{said}, and {more} {listed(by_rate)}."


def _range(cells: Sequence[Cell]) -> str:
    """Least and most mean change of error, in points; lost networks first."""
    changes = [cell.change() for cell in cells]
    means = [100 * change.mean for change in changes if not change.lost]
    lost = sum(change.lost for change in changes)
    said = [f"the loss of {lost} networks"] * (lost > 0)
    if means:
        said.append(span(means, signed=True))
    return " and ".join(said)


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
    errors, taus = (listed(texts) for texts in ([f"{100 * e:.1f}" for e in one.errors], [f"{t:g}" for t in one.taus]))
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
        turns = span([100 * float(cell.values["averaged"]["err_goodness"].mean()) for cell in mine])
        both = span([100 * float(cell.usual["err_goodness"].mean()) for cell in mine])
        ends.append(f"{turns} % against {both} % with both at once ({variant})")
    slow, long = (listed([f"{one:g}" for one in sorted(some)]) for some in (rates, blocks))
    return (
        f"Newborns that learned at {slow} in turns of {long} updates ended at an error of {listed(ends)}; slower "
        "learning over a longer childhood, deeper nets and harder images were not tried and might change the answer."
    )


def _points(found: Effect) -> str:
    if found.lost:
        return f"{found.lost} of {found.n} subjects"
    return (
        f"{number(100 * found.mean, 0)} [{number(100 * found.low, 0)}, {number(100 * found.high, 0)}] points of error"
    )
