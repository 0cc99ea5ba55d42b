"""``python -m cortexff.report``: one page, with figures and tables, from results files of sleep studies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cortexff.errors import CortexffError, run_command

if TYPE_CHECKING:
    from cortexff.report.page import Picture
    from cortexff.report.study import Population

EPILOG = """\b
Examples:
  python -m cortexff.protocol sleep_deprivation                          a run to report on
  python -m cortexff.report results/sleep_deprivation/default.h5         its report
  python -m cortexff.report results/a.h5 results/b.h5 --out my/report    one report on two runs
"""


@click.command(epilog=EPILOG, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder.  [default: NAME_report beside the first file]",
)
def command(results: Sequence[Path], out: Path | None) -> None:
    """Report on sleep deprivation: figures, tables and verdicts from RESULTS files of protocol sleep_deprivation.

    The folder gets index.html, which holds everything and needs no other file, each figure as SVG and PNG, each table
    as CSV, and all trials of the vigilance task. A run that still goes on can be reported on as far as it is.
    """
    out = out or results[0].with_name(f"{results[0].stem}_report")
    page = report(results, out, lambda text: click.echo(f"{text} ...", err=True))
    click.echo(f"Report: {page}")


def report(results: Sequence[Path], out: Path, say: Callable[[str], None] = lambda text: None) -> Path:
    """Write the report on some results files into a folder, and return its page.

    say     told what comes next
    raises  CortexffError where a file has no sleep to report on
    """
    from cortexff.report import page, predictions, tables
    from cortexff.report.findings import Findings
    from cortexff.report.outcomes import Measured

    say("reading")
    populations = _deprived(results)
    out.mkdir(parents=True, exist_ok=True)
    studies = [Measured(population) for population in populations]
    findings = Findings(studies, say)
    predicted = predictions.preregistration()
    judged = predictions.judge(findings, predicted) if predicted else []
    pictures = list(_pictures(populations, out, say))
    say("writing tables")
    written = [table.write(out) for table in page.all_tables(findings, judged).values()]
    trials = tables.of_trials(studies)
    written += [trials.write(out)] if trials.rows else []
    drawn = [f"{picture.stem}.{kind}" for picture in pictures for kind in ("svg", "png")]
    names = [*drawn, *(path.name for path in written)]
    index = out / "index.html"
    index.write_text(page.render(page.Content(findings, predicted, judged, pictures, names)), encoding="utf-8")
    return index


def _deprived(results: Sequence[Path]) -> list[Population]:
    """The populations that were deprived of sleep; of every file there is one."""
    from cortexff.report.predictions import PROTOCOL
    from cortexff.report.study import read

    populations = read(results)
    for path in results:
        mine = [population for population in populations if population.path == path]
        if not any(map(_is_deprived, mine)):
            there = ", ".join(dict.fromkeys(name for one in mine for name in one.courses)) or "none that is over"
            words = f"{path}: has no conditions 'control' and 'deprived' (found: {there})"
            raise CortexffError(f"{words}: give results of protocol {PROTOCOL}")
    return [population for population in populations if _is_deprived(population)]


def _is_deprived(population: Population) -> bool:
    return {"control", "deprived"} <= population.courses.keys()


def _pictures(populations: list[Population], out: Path, say: Callable[[str], None]) -> Iterator[Picture]:
    """Draw what the populations have data for, as SVG and PNG in the folder."""
    from matplotlib import rc_context

    from cortexff.plots.page import STYLE
    from cortexff.report.figures import EVERYONE, FIGURES
    from cortexff.report.page import Picture
    from cortexff.report.study import ABREAST

    with rc_context(STYLE):
        for stem, (title, draw) in FIGURES.items():
            say(f"drawing {stem}")
            figure = draw(populations if stem == EVERYONE else populations[:ABREAST])
            if figure is None:
                continue
            png = out / f"{stem}.png"
            figure.savefig(png)
            figure.savefig(png.with_suffix(".svg"), metadata={"Date": None})
            yield Picture(stem, title, png.read_bytes())


main = partial(run_command, command, "cortexff.report")

if __name__ == "__main__":
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    main()
