"""``python -m cortexff.protocol``: lists the protocols, or runs one by name.

Only this file joins schedule, engine, log and figures. What is slow to import is imported when a run begins.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cortexff.environment import check_device, now, share_processors
from cortexff.errors import CortexffError, run_command
from cortexff.protocol.progress import Progress

if TYPE_CHECKING:
    import networkx as nx

    from cortexff.experiments.course import Course
    from cortexff.protocol.runner import Run
    from cortexff.protocol.schedule import ByExperiment, Protocol
    from cortexff.protocol.table import Row
    from cortexff.stimuli.images import Images

EPILOG = """\b
Examples:
  python -m cortexff.protocol                                   list the protocols
  python -m cortexff.protocol sleep_deprivation                 run one
  python -m cortexff.protocol sleep_deprivation --preset quick  a first look
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
    "--engine",
    "kind",
    type=click.Choice(["rate", "spiking"]),
    help="Rates, or spiking units.  [default: the protocol's]",
)
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


@dataclass(frozen=True)
class Order:
    """What is asked for on the command line, beside the settings of the protocol; names are those of the options."""

    name_or_path: str
    preset: str
    out: Path
    overwrite: bool
    resume: bool
    dry_run: bool
    device: str
    progress: str | None
    as_json: bool

    @property
    def name(self) -> str:
        return Path(self.name_or_path).stem

    @property
    def draws_bars(self) -> bool:
        """Whether a bar may be drawn while a file is fetched."""
        return self.progress != "none" and sys.stderr.isatty()

    def say(self, text: str) -> None:
        click.echo(text, err=self.as_json)

    def check_free(self) -> None:
        """Raises CortexffError where a results file would be overwritten unasked."""
        if not self.resume and not self.overwrite and self.out.exists():
            raise CortexffError(
                f"{self.out} exists: give --out another file, --overwrite it, or --resume it if it was interrupted"
            )

    def announce(self, title: str) -> None:
        self.say(f"{self.name} ({self.preset}): {title}")

    def interrupted(self) -> NoReturn:
        """Say how to go on, and exit."""
        self.say(f"Interrupted; nothing is lost. {_go_on()}")
        sys.exit(130)


def run(
    name_or_path: str,
    preset: str,
    *,
    model: str | None,
    subjects: int | None,
    seed: int | None,
    precision: str | None,
    kind: str | None,
    assignments: Sequence[str],
    sweeps: Sequence[str],
    jobs: int,
    cluster: str | None,
    out: Path | None,
    **asked: Any,
) -> None:
    """Carry out one protocol from the command line."""
    from cortexff.graph import afferents, hidden_areas, load_model
    from cortexff.protocol.loading import assignment, load_protocol
    from cortexff.protocol.schedule import ByExperiment

    changes = {f"--set {text}": assignment(text) for text in assignments}
    given = {
        "model": ("model", model),
        "subjects": ("subjects", subjects),
        "seed": ("seed", seed),
        "precision": ("engine.precision", precision),
        "engine": ("engine.kind", kind),
    }
    for option, (key, value) in given.items():
        if value is not None:
            changes[f"--{option} {value}"] = assignment(f"{key}={json.dumps(value)}")
    out = out or Path("results") / Path(name_or_path).stem / f"{preset}.h5"
    if out.suffix != ".h5":
        raise CortexffError(f"--out {out}: the results file must end in .h5")
    order = Order(name_or_path, preset, out, **asked)
    if jobs > 1 or cluster or sweeps:
        run_many(order, changes, sweeps, jobs, cluster)
        return
    protocol = load_protocol(name_or_path, preset, changes)
    alone = run_experiment if isinstance(protocol, ByExperiment) else run_stages
    net = load_model(protocol.model)
    for area in hidden_areas(net):
        if not afferents(net, area, "bottom_up"):
            order.say(f"{net.graph['source']}: area {area} hears nothing from below, so no image reaches it by itself")
    alone(order, protocol, net)


def run_stages(order: Order, protocol: Protocol, net: nx.MultiDiGraph) -> None:
    """Carry out a protocol of stages."""
    from cortexff.engines import ranks

    check_device(order.device)
    if order.dry_run and ranks.is_another():  # one is enough to look ahead, and it may not wait for the others
        return
    if not order.dry_run:
        ranks.join(order.device)
        order.check_free()
        if ranks.number():  # where torchrun started several processes, one of them speaks and writes
            order = replace(order, progress="none")
        else:
            order.announce(f"{protocol.title}; images: {protocol.stimuli.images}")

    from cortexff.protocol import provenance, table
    from cortexff.protocol.checkpoint import path_for
    from cortexff.protocol.engine import with_precision
    from cortexff.protocol.plan import plan
    from cortexff.protocol.runner import Run

    protocol = with_precision(protocol, net, order.device)
    images = _fitting_images(order, protocol, net)
    if order.dry_run:
        from cortexff.protocol.estimate import describe

        segments = plan(protocol, len(images.training_labels))
        for part in describe(protocol, net, segments, images, order.out, order.device):
            order.say(part)
        return
    came_from = provenance.origin(protocol, net, order.name_or_path, order.preset)
    versions = protocol.versions(images.classes)
    log = provenance.open_log(order.out, protocol, net, versions, came_from, order.resume, order.overwrite)
    run_id, checkpoint = log.attribute("started"), path_for(order.out)
    course = Run(protocol, net, images, log, checkpoint, run_id=run_id, device=order.device)
    carry_out(order, course, lambda: table.build(order.out, protocol, order.name, order.preset), table.render)


def run_experiment(order: Order, protocol: ByExperiment, net: nx.MultiDiGraph) -> None:
    """Carry out a protocol that has steps of its own."""
    from cortexff.experiments import module
    from cortexff.experiments.course import Course, describe
    from cortexff.protocol import provenance, table
    from cortexff.protocol.checkpoint import path_for
    from cortexff.protocol.engine import with_precision

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise CortexffError(f"torchrun: {order.name} is carried out by one process; start it without")
    check_device(order.device)
    protocol, methods = with_precision(protocol, net, order.device), module(protocol.experiment)
    if not order.dry_run:
        order.check_free()
        order.announce(protocol.title)
    experiment = methods.Experiment(protocol, net, order.device, fetching=order.draws_bars)
    if order.dry_run:
        order.say(describe(experiment, net, order.out))
        return
    came_from = provenance.origin(protocol, net, order.name_or_path, order.preset)
    log = provenance.open_log(order.out, protocol, net, None, came_from, order.resume, order.overwrite)
    course = Course(experiment, log, path_for(order.out), run_id=log.attribute("started"))
    carry_out(
        order,
        course,
        lambda: methods.report(order.out, protocol, order.name, order.preset),
        table.render,
    )


def carry_out(
    order: Order, course: Run | Course, build: Callable[[], list[Row]], render: Callable[[list[Row]], str]
) -> None:
    """Let a run go on to its end, and close it with its table and figures.

    build   makes the rows of the table from the results file
    render  makes text of them
    """
    from cortexff.engines import ranks
    from cortexff.plots import draw
    from cortexff.protocol import table
    from cortexff.protocol.runner import Interrupted

    speaks = ranks.number() == 0
    with course.log as log, Progress(order.progress, course.updates, order.say) as course.listener:
        try:
            course.carry_out(resume=order.resume)
        except Interrupted:
            if speaks:
                order.interrupted()
            sys.exit(130)
        log.flush()
        ranks.leave()
        if not speaks:
            return
        rows = build()
        table.write(log, rows)
        log.attributes("/", {"finished": now()})
    course.forget_checkpoint()
    order.say("")
    click.echo(_json(rows) if order.as_json else render(rows))
    order.say("\nResults: " + ", ".join(str(path) for path in (order.out, *draw(order.out))))


def run_many(
    order: Order,
    changes: Mapping[str, Mapping[str, Any]],
    sweeps: Sequence[str],
    jobs: int,
    cluster: str | None,
) -> None:
    """Carry out one protocol in shards, with every point of a grid of settings, on several processes or a cluster."""
    from cortexff.graph import load_model
    from cortexff.plots import draw
    from cortexff.protocol import provenance, sweep, table, workers
    from cortexff.protocol.engine import with_precision
    from cortexff.protocol.loading import load_protocol
    from cortexff.protocol.plan import plan
    from cortexff.protocol.runner import Interrupted
    from cortexff.protocol.schedule import ByExperiment

    workers.check_installed(cluster)
    if cluster is None:  # else the jobs' machines have it or not
        check_device(order.device)
    elif not order.dry_run:
        workers.check_cluster()
    points, cases = [], {}
    for label, settings in sweep.grid(sweeps).items():
        protocol = load_protocol(order.name_or_path, order.preset, {**changes, **settings})
        if isinstance(protocol, ByExperiment):
            raise CortexffError(
                f"--jobs, --cluster, --sweep: {order.name} is carried out by one process; leave them out"
            )
        net = load_model(protocol.model)
        protocol = with_precision(protocol, net, order.device, here=cluster is None)
        came_from = provenance.origin(protocol, net, order.name_or_path, order.preset)
        points.append(sweep.Point(label, protocol, net, came_from, sweep.path_of(order.out, label)))
        images = _fitting_images(order, protocol, net)
        cases[label] = len(images.training_labels)
        if order.dry_run:
            from cortexff.protocol.estimate import describe

            here = "cpu" if cluster else order.device  # the GPU is at the cluster's
            for part in describe(protocol, net, plan(protocol, cases[label]), images, points[-1].out, here):
                order.say(part)
            order.say("")
    if order.dry_run:
        shards = sweep.cut(points, jobs)
        order.say(f"{len(shards)} shards, {jobs} at a time:\n" + "\n".join(f"  {shard.path}" for shard in shards))
        if cluster:
            order.say(f"\nThe script of each of {jobs} jobs:\n\n{workers.job_script()}")
        return
    shards = sweep.prepare(points, jobs, order.resume, order.overwrite)
    order.announce(f"{points[0].protocol.title}; {len(shards)} shards, {jobs} at a time")
    pictures = []
    segments = [segment for shard in shards for segment in shard.segments(cases[shard.point.name])]
    updates = sum(segment.updates for segment in segments)
    with Progress(order.progress, updates, order.say) as listener, workers.start(jobs, cluster) as (client, threads):

        def finished(point: sweep.Point) -> None:
            pictures.extend([point.out, *draw(point.out)])

        try:
            problems = workers.carry_out(shards, client, threads, order.device, listener, finished)
        except Interrupted:
            order.interrupted()
    done = [point for point in points if point.out.exists()]
    tables = {point.name: table.build(point.out, point.protocol, order.name, order.preset) for point in done}
    order.say("")
    if order.as_json:
        labels = [label for label, rows in tables.items() for _ in rows] if sweeps else []
        click.echo(_json([row for rows in tables.values() for row in rows], labels))
    elif tables:
        click.echo(table.compare(tables) if sweeps else table.render(next(iter(tables.values()))))
    if pictures:
        order.say("\nResults: " + ", ".join(map(str, pictures)))
    if problems:
        click.echo("\n".join([*problems, f"What else was begun is finished. {_go_on()}"]), err=True)
        sys.exit(1)


def _go_on() -> str:
    kept = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--overwrite")]
    return f"Go on with: python -m cortexff.protocol {shlex.join([*kept, '--resume'])}"


def _fitting_images(order: Order, protocol: Protocol, net: nx.MultiDiGraph) -> Images:
    """The images of a protocol, once it is sure that they, the model and every variant go together."""
    from cortexff.protocol.fit import check_fit
    from cortexff.protocol.presentation import images_of

    images = images_of(protocol.stimuli, progress=order.draws_bars)
    check_fit(protocol, net, images)
    return images


main = partial(run_command, command, "cortexff.protocol")

if __name__ == "__main__":
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    share_processors()
    main()
