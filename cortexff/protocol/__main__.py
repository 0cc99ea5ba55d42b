"""``python -m cortexff.protocol``: lists the protocols, or runs one by name.

Only this file joins schedule, engine, log and figures. What is slow to import is imported when a run begins.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cortexff.errors import CortexffError

if TYPE_CHECKING:
    from cortexff.protocol.runner import Listener, Segment
    from cortexff.protocol.table import Row

SECONDS_OF_SILENCE = 10  # the longest that a run written as text says nothing

EPILOG = """\b
Examples:
  python -m cortexff.protocol                                   list the protocols
  python -m cortexff.protocol sleep_deprivation                 run one
  python -m cortexff.protocol sleep_deprivation --preset quick  a first look, in seconds
  python -m cortexff.protocol paper                             print the kept runs beside the paper's figures
  python -m cortexff.protocol sleep_deprivation --model my_model.yaml --subjects 5
  python -m cortexff.protocol sleep_deprivation --set stages.deprivation.updates=300 --out results/short.h5
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
@click.option("--out", type=click.Path(path_type=Path), help="Results file (.h5).  [default: results/NAME/PRESET.h5]")
@click.option("--overwrite", is_flag=True, help="Replace an existing results file.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run from its checkpoint.")
@click.option("--dry-run", is_flag=True, help="Print the schedule and an estimate of time and memory, and stop.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute."
)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="Precision of the matrix products.")
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


def _json(rows: Sequence[Row]) -> str:
    """Rows of a closing table as JSON; what is not a number becomes null."""
    from dataclasses import asdict
    from math import isfinite

    plain = [
        {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in asdict(row).items()}
        for row in rows
    ]
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
    from cortexff.protocol.schedule import assignment, load_protocol

    changes = {f"--set {text}": assignment(text) for text in assignments}
    for option, value in {"model": model, "subjects": subjects, "seed": seed, "engine.precision": precision}.items():
        if value is not None:
            changes[f"--{option.split('.')[-1]} {value}"] = assignment(f"{option}={json.dumps(value)}")
    protocol = load_protocol(name_or_path, preset, changes)
    name = Path(name_or_path).stem
    from cortexff.graph import load_model

    net = load_model(protocol.model)
    out = out or Path("results") / name / f"{preset}.h5"
    if out.suffix != ".h5":
        raise CortexffError(f"--out {out}: the results file must end in .h5")
    if not dry_run and not resume and not overwrite and out.exists():
        raise CortexffError(
            f"{out} exists: give --out another file, --overwrite it, or --resume it if it was interrupted"
        )
    say = (lambda text: click.echo(text, err=True)) if as_json else click.echo
    if not dry_run:
        say(f"{name} ({preset}): {protocol.title}")

    from cortexff.plots import draw
    from cortexff.protocol import table
    from cortexff.protocol.checkpoint import path_for
    from cortexff.protocol.runner import Interrupted, Run, check_fit, plan
    from cortexff.stimuli import images as image_sets

    _check_device(device)
    images = image_sets.load(protocol.stimuli.images, progress=progress != "none" and sys.stderr.isatty())
    images = image_sets.hold_out(images, protocol.stimuli.validation)
    segments = plan(protocol, len(images.training_labels))
    check_fit(protocol, net, images)
    if dry_run:
        from cortexff.protocol.estimate import describe

        say(describe(protocol, net, segments, images, out))
        return
    from cortexff.protocol import provenance

    came_from = provenance.origin(protocol, net, name_or_path, preset)
    log = provenance.open_log(out, protocol, net, images.classes, came_from, resume, overwrite)
    with log, _Progress(progress, segments, say) as listener:
        try:
            course = Run(protocol, net, images, log, path_for(out), listener, log.attribute("started"), device=device)
            course.carry_out(resume=resume)
        except Interrupted:
            command_line = shlex.join(
                [*(arg for arg in sys.argv[1:] if arg not in ("--resume", "--overwrite")), "--resume"]
            )
            say(f"Interrupted; nothing is lost. Go on with: python -m cortexff.protocol {command_line}")
            sys.exit(130)
        log.flush()
        rows = table.build(out, protocol, name, preset)
        table.write(log, rows)
        log.attributes("/", {"finished": provenance.now()})
        course.forget_checkpoint()
    say("")
    click.echo(_json(rows) if as_json else table.render(rows))
    pictures = draw(out)
    say("\nResults: " + ", ".join(str(path) for path in (out, *pictures)))


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise CortexffError("--device cuda: this PyTorch sees no CUDA device; leave the option out to use the CPU")


class _Progress:
    """Shows how far a run has come, and hears Ctrl-C and SIGTERM."""

    def __init__(self, style: str | None, segments: Sequence[Segment], say: Callable[[str], None]) -> None:
        self.style = style or ("bar" if sys.stderr.isatty() else "text")
        self.total = sum(segment.updates for segment in segments)
        self.done, self.say, self.stopping, self.said = 0, say, False, time.monotonic()

    def __enter__(self) -> Listener:
        from tqdm import tqdm

        from cortexff.protocol.runner import Listener

        self.bar = tqdm(
            total=self.total, unit="update", disable=self.style != "bar", dynamic_ncols=True, file=sys.stderr
        )
        self.before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return Listener(self._advanced, self._probed, self._noted, lambda: self.stopping)

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        if self.stopping:  # asked twice: stop at once
            raise KeyboardInterrupt
        self.stopping = True

    def _advanced(self, updates: int) -> None:
        self.done += updates
        self.bar.update(updates)
        if self.style == "text" and time.monotonic() - self.said > SECONDS_OF_SILENCE:
            self._say("...")

    def _probed(self, segment: Segment, update: int, measurement: Any) -> None:
        row = measurement.row
        text = (
            f"{segment.group:<20} update {segment.before + update:>5}  "
            f"error {100 * row['err_goodness'].mean():5.2f} %  "
            f"hallucinations {100 * row['fp_neg'].mean():5.1f} %  d′ {row['dprime'].mean():.2f}  "
            f"({segment.stage.probe_on} images)"
        )
        if self.style == "bar":
            self.bar.set_description(segment.group)
            self.bar.set_postfix_str(f"error {100 * row['err_goodness'].mean():.2f} %")
        elif self.style == "text":
            self._say(text)

    def _noted(self, text: str) -> None:
        if self.style == "bar":
            self.bar.write(text, file=sys.stderr)
        elif self.style == "text":
            self._say(text)

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        self.say(f"[{self.done:>6}/{self.total}] {text}")


def main() -> None:
    """The command line: an error that the user can mend is one line and exit code 2."""
    try:
        command(prog_name="python -m cortexff.protocol")
    except CortexffError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    main()
