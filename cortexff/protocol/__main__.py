"""``python -m cortexff.protocol``: lists the protocols, or runs one by name.

Only this file joins schedule, engine, log and figures. What is slow to import is imported when a run begins.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cortexff.environment import check_device, now
from cortexff.errors import CortexffError, run_command
from cortexff.protocol.progress import Progress

if TYPE_CHECKING:
    import networkx as nx

    from cortexff.protocol.schedule import ByExperiment, Protocol
    from cortexff.protocol.table import Row
    from cortexff.stimuli.images import Images

EPILOG = """\b
Examples:
  python -m cortexff.protocol                                   list the protocols
  python -m cortexff.protocol sleep_deprivation                 run one
  python -m cortexff.protocol sleep_deprivation --preset quick  a first look, in seconds
  python -m cortexff.protocol paper                             print the kept runs beside the paper's figures
  python -m cortexff.protocol sleep_deprivation --model my_model.yaml --subjects 5
  python -m cortexff.protocol sleep_deprivation --set stages.deprivation.updates=300 --out results/short.h5
  python -m cortexff.protocol recurrent --subjects 32 --jobs 4 --sweep plasticity.learning_rate=2,5,10
"""


@click.command(epilog=EPILOG, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option(
    "--preset",
    default="default",
    show_default=True,
    help="A set of settings of the protocol; the listing names them.",
)
@click.option("--model", help="A model to use instead of the protocol's: a name or a YAML file.")
@click.option(
    "--subjects", type=click.IntRange(min=1), help="Number of subjects: independent networks, simulated together."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random number of the run.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Change one setting of the protocol; may be given often.",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="KEY.PATH=VALUE,VALUE",
    help="Run once with each of these values; given often, with all combinations.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Share the work among so many processes, by Dask.")
@click.option(
    "--cluster", type=click.Choice(["slurm"]), help="Let the processes be jobs of a cluster, by dask-jobqueue."
)
@click.option("--out", type=click.Path(path_type=Path), help="Results file (.h5).  [default: results/NAME/PRESET.h5]")
@click.option("--overwrite", is_flag=True, help="Replace an existing results file.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run from its checkpoint.")
@click.option("--dry-run", is_flag=True, help="Print the schedule and an estimate of time and memory, and stop.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute."
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="Precision of the matrix products.  [default: the protocol's, or the fastest here]",
)
@click.option(
    "--progress", type=click.Choice(["bar", "text", "none"]), help="[default: a bar on a terminal, else lines of text]"
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the closing table as JSON, and nothing else, on standard output."
)
def command(name: str | None, **options: Any) -> None:
    """Run a protocol: development, wake, sleep and deprivation of simulated subjects, and the probes between them.

    NAME is a protocol that the bare command lists, or a path to a YAML file of your own. The run is logged in one HDF5
    file, with a figure beside it, and closes with a short table. An interrupted run (Ctrl-C) goes on with --resume.
    """
    if name is None:
        listing()
    elif name == "paper":
        paper(options["as_json"])
    else:
        run(name, **options)


def paper(as_json: bool) -> None:
    """Print the kept runs beside the paper's figures."""
    from cortexff.protocol.paper import FOLDER, kept_runs, text

    runs = kept_runs()
    if not runs:
        raise CortexffError(f"no results in {FOLDER}: this needs a checkout of cortexff with the runs it keeps")
    click.echo(_json([row for run in runs for row in run.rows]) if as_json else text(runs))


def _json(rows: Sequence[Row], points: Sequence[str] = ()) -> str:
    """Rows of a closing table as JSON, each with its point of a sweep; what is not a number becomes null."""
    from dataclasses import asdict
    from math import isfinite

    plain = [
        {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in asdict(row).items()}
        for row in rows
    ]
    plain = [{"point": point, **row} for point, row in zip(points, plain, strict=True)] if points else plain
    return json.dumps(plain, ensure_ascii=False, indent=1)


def listing() -> None:
    """Print every protocol with its section of the paper and its presets."""
    from cortexff.description import parse, read_text
    from cortexff.resources import find, names

    click.echo("Protocols (run one with: python -m cortexff.protocol NAME):\n")
    for name in names("protocols"):
        path = find("protocols", name)
        try:
            written = parse(read_text(path), source=str(path))
            presets = ", ".join(dict.fromkeys(["default", *(written.get("presets") or {})]))
            click.echo(f"  {name:<20} §{written.get('section', '?'):<6} {written.get('title', '')}  [{presets}]")
        except (CortexffError, AttributeError, TypeError):  # checked in full, with its line, when it is run
            click.echo(f"  {name:<20} cannot be read: run it to see why")
    click.echo("\nModels (--model):  " + ", ".join(names("models")))


def run(
    name_or_path: str,
    preset: str,
    model: str | None,
    subjects: int | None,
    seed: int | None,
    assignments: Sequence[str],
    sweeps: Sequence[str],
    jobs: int,
    cluster: str | None,
    out: Path | None,
    overwrite: bool,
    resume: bool,
    dry_run: bool,
    device: str,
    precision: str | None,
    progress: str | None,
    as_json: bool,
) -> None:
    """Carry out one protocol from the command line."""
    from cortexff.protocol.schedule import ByExperiment, assignment, load_protocol

    changes = {f"--set {text}": assignment(text) for text in assignments}
    for option, value in {"model": model, "subjects": subjects, "seed": seed, "engine.precision": precision}.items():
        if value is not None:
            changes[f"--{option.split('.')[-1]} {value}"] = assignment(f"{option}={json.dumps(value)}")
    name = Path(name_or_path).stem
    out = out or Path("results") / name / f"{preset}.h5"
    if out.suffix != ".h5":
        raise CortexffError(f"--out {out}: the results file must end in .h5")
    if jobs > 1 or cluster or sweeps:
        run_many(
            name_or_path,
            preset,
            changes,
            sweeps,
            out,
            jobs=jobs,
            cluster=cluster,
            overwrite=overwrite,
            resume=resume,
            dry_run=dry_run,
            device=device,
            progress=progress,
            as_json=as_json,
        )
        return
    protocol = load_protocol(name_or_path, preset, changes)
    from cortexff.graph import load_model

    net = load_model(protocol.model)
    if isinstance(protocol, ByExperiment):
        run_experiment(
            protocol,
            net,
            name_or_path,
            preset,
            out,
            overwrite=overwrite,
            resume=resume,
            dry_run=dry_run,
            device=device,
            progress=progress,
            as_json=as_json,
        )
        return
    from cortexff.engines import ranks

    check_device(device)
    if dry_run and ranks.is_another():  # one is enough to look ahead, and it may not wait for the others
        return
    if not dry_run:
        ranks.join(device)
    first = ranks.number() == 0  # where torchrun started several processes, one of them speaks and writes
    if not dry_run:
        _check_free(out, overwrite, resume)
    say = partial(click.echo, err=as_json) if first else lambda text: None
    if not dry_run:
        say(f"{name} ({preset}): {protocol.title}")

    from cortexff.plots import draw
    from cortexff.protocol import table
    from cortexff.protocol.checkpoint import path_for
    from cortexff.protocol.runner import Interrupted, Run, plan, with_precision

    protocol = with_precision(protocol, net, device)
    images = _fitting_images(protocol, net, progress)
    segments = plan(protocol, len(images.training_labels))
    if dry_run:
        from cortexff.protocol.estimate import describe

        say(describe(protocol, net, segments, images, out, device))
        return
    from cortexff.protocol import provenance

    came_from = provenance.origin(protocol, net, name_or_path, preset)
    log = provenance.open_log(out, protocol, net, protocol.versions(images.classes), came_from, resume, overwrite)
    updates = sum(segment.updates for segment in segments)
    with log, Progress(progress if first else "none", updates, say) as listener:
        try:
            course = Run(protocol, net, images, log, path_for(out), listener, log.attribute("started"), device=device)
            course.carry_out(resume=resume)
        except Interrupted:
            say(f"Interrupted; nothing is lost. {_go_on()}")
            sys.exit(130)
        log.flush()
        ranks.leave()
        if not first:
            return
        rows = table.build(out, protocol, name, preset)
        table.write(log, rows)
        log.attributes("/", {"finished": now()})
    course.forget_checkpoint()
    say("")
    click.echo(_json(rows) if as_json else table.render(rows))
    pictures = draw(out)
    say("\nResults: " + ", ".join(str(path) for path in (out, *pictures)))


def run_experiment(
    protocol: ByExperiment,
    net: nx.MultiDiGraph,
    name_or_path: str,
    preset: str,
    out: Path,
    *,
    overwrite: bool,
    resume: bool,
    dry_run: bool,
    device: str,
    progress: str | None,
    as_json: bool,
) -> None:
    """Carry out a protocol that has steps of its own."""
    from cortexff.experiments import module
    from cortexff.experiments.course import Course, describe
    from cortexff.plots import draw
    from cortexff.protocol import provenance, table
    from cortexff.protocol.checkpoint import path_for
    from cortexff.protocol.runner import Interrupted, with_precision

    name, say = Path(name_or_path).stem, partial(click.echo, err=as_json)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise CortexffError(f"torchrun: {name} is carried out by one process; start it without")
    check_device(device)
    protocol, methods = with_precision(protocol, net, device), module(protocol.experiment)
    if not dry_run:
        _check_free(out, overwrite, resume)
        say(f"{name} ({preset}): {protocol.title}")
    experiment = methods.Experiment(protocol, net, device, fetching=progress != "none" and sys.stderr.isatty())
    if dry_run:
        say(describe(experiment, net, out))
        return
    came_from = provenance.origin(protocol, net, name_or_path, preset)
    log = provenance.open_log(out, protocol, net, None, came_from, resume, overwrite)
    course = Course(experiment, log, path_for(out), run_id=log.attribute("started"))
    with log, Progress(progress, course.updates, say) as course.listener:
        try:
            course.carry_out(resume=resume)
        except Interrupted:
            say(f"Interrupted; nothing is lost. {_go_on()}")
            sys.exit(130)
        log.flush()
        rows = methods.report(out, protocol, name, preset)
        table.write(log, rows)
        log.attributes("/", {"finished": now()})
    course.forget_checkpoint()
    say("")
    click.echo(_json(rows) if as_json else f"{table.render(rows)}\n\n{methods.summary(rows)}".rstrip())
    say("\nResults: " + ", ".join(str(path) for path in (out, *draw(out))))


def run_many(
    name_or_path: str,
    preset: str,
    changes: Mapping[str, Mapping[str, Any]],
    sweeps: Sequence[str],
    out: Path,
    *,
    jobs: int,
    cluster: str | None,
    overwrite: bool,
    resume: bool,
    dry_run: bool,
    device: str,
    progress: str | None,
    as_json: bool,
) -> None:
    """Carry out one protocol in shards, with every point of a grid of settings, on several processes or a cluster."""
    from cortexff.graph import load_model
    from cortexff.plots import draw
    from cortexff.protocol import provenance, sweep, table, workers
    from cortexff.protocol.runner import Interrupted, plan, with_precision
    from cortexff.protocol.schedule import ByExperiment, load_protocol

    workers.check_installed(cluster)
    if cluster is None:  # else the jobs' machines have it or not
        check_device(device)
    elif not dry_run:
        workers.check_cluster()
    say = partial(click.echo, err=as_json)
    points, cases = [], {}
    for label, settings in sweep.grid(sweeps).items():
        protocol = load_protocol(name_or_path, preset, {**changes, **settings})
        if isinstance(protocol, ByExperiment):
            raise CortexffError(
                f"--jobs, --cluster, --sweep: {Path(name_or_path).stem} is carried out by one process; leave them out"
            )
        net = load_model(protocol.model)
        protocol = with_precision(protocol, net, device, here=cluster is None)
        came_from = provenance.origin(protocol, net, name_or_path, preset)
        points.append(sweep.Point(label, protocol, net, came_from, sweep.path_of(out, label)))
        images = _fitting_images(protocol, net, progress)
        cases[label] = len(images.training_labels)
        if dry_run:
            from cortexff.protocol.estimate import describe

            here = "cpu" if cluster else device  # the GPU is at the cluster's
            say(describe(protocol, net, plan(protocol, cases[label]), images, points[-1].out, here) + "\n")
    if dry_run:
        shards = sweep.cut(points, jobs)
        say(f"{len(shards)} shards, {jobs} at a time:\n" + "\n".join(f"  {shard.path}" for shard in shards))
        if cluster:
            say(f"\nThe script of each of {jobs} jobs:\n\n{workers.job_script()}")
        return
    shards = sweep.prepare(points, jobs, resume, overwrite)
    name = Path(name_or_path).stem
    say(f"{name} ({preset}): {points[0].protocol.title}; {len(shards)} shards, {jobs} at a time")
    pictures = []
    segments = [segment for shard in shards for segment in shard.segments(cases[shard.point.name])]
    updates = sum(segment.updates for segment in segments)
    with Progress(progress, updates, say) as listener, workers.start(jobs, cluster) as (client, threads):
        try:
            problems = workers.carry_out(
                shards, client, threads, device, listener, lambda point: pictures.extend([point.out, *draw(point.out)])
            )
        except Interrupted:
            say(f"Interrupted; nothing is lost. {_go_on()}")
            sys.exit(130)
    done = [point for point in points if point.out.exists()]
    tables = {point.name: table.build(point.out, point.protocol, name, preset) for point in done}
    say("")
    if as_json:
        labels = [label for label, rows in tables.items() for _ in rows] if sweeps else []
        click.echo(_json([row for rows in tables.values() for row in rows], labels))
    elif tables:
        click.echo(table.compare(tables) if sweeps else table.render(next(iter(tables.values()))))
    if pictures:
        say("\nResults: " + ", ".join(map(str, pictures)))
    if problems:
        click.echo("\n".join([*problems, f"What else was begun is finished. {_go_on()}"]), err=True)
        sys.exit(1)


def _check_free(out: Path, overwrite: bool, resume: bool) -> None:
    """Raises CortexffError where a results file would be overwritten unasked."""
    if not resume and not overwrite and out.exists():
        raise CortexffError(
            f"{out} exists: give --out another file, --overwrite it, or --resume it if it was interrupted"
        )


def _go_on() -> str:
    kept = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--overwrite")]
    return f"Go on with: python -m cortexff.protocol {shlex.join([*kept, '--resume'])}"


def _fitting_images(protocol: Protocol, net: nx.MultiDiGraph, progress: str | None) -> Images:
    """The images of a protocol, once it is sure that they, the model and every variant go together."""
    from cortexff.protocol.runner import check_fit
    from cortexff.stimuli import images as image_sets

    images = image_sets.load(protocol.stimuli.images, progress=progress != "none" and sys.stderr.isatty())
    images = image_sets.hold_out(images, protocol.stimuli.validation)
    check_fit(protocol, net, images)
    return images


main = partial(run_command, command, "cortexff.protocol")

if __name__ == "__main__":
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    main()
