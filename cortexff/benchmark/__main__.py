"""``python -m cortexff.benchmark``: the engine's speed as a share of what this machine's matrix products reach."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import click

from cortexff.benchmark.cases import QUICK, SPIKING, Case, groups, memory_cases
from cortexff.environment import share_processors
from cortexff.errors import CortexffError, run_command

REPEATS, QUICK_REPEATS = 7, 3


@click.command(context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Fewer cases and repeats, in less than 40 seconds.")
@click.option("--case", "pattern", default="*", help="Only the cases of this name, such as 'cifar10*'.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the rows to this file.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute."
)
def command(quick: bool, pattern: str, file: Path | None, device: str) -> None:
    """Measure this machine's matrix products at the engine's own shapes, and the engine in the same run.

    Work is counted in the multiplications that the algorithm needs; its share of the product rate is what an engine
    that did nothing else would call 100 %. A few minutes.
    """
    wanted = QUICK if quick else ("*",)

    def chosen(cases: list[Case]) -> list[Case]:
        return [c for c in cases if fnmatch(c.name, pattern) and any(fnmatch(c.name, name) for name in wanted)]

    timing, memory = [group for cases in groups() if (group := chosen(cases))], chosen(memory_cases())
    spikes = [name for name in SPIKING if fnmatch(name, pattern) and not quick]  # compiling takes minutes
    if not timing and not memory and not spikes:
        names = ", ".join([*(case.name for cases in [*groups(), memory_cases()] for case in cases), *SPIKING])
        raise CortexffError(f"--case {pattern}: no such case; known are {names}")

    import torch

    from cortexff.benchmark.measure import AUTOGRAD, BY_HAND, remembered, spiking, timed
    from cortexff.benchmark.table import COLUMNS, cells, line
    from cortexff.environment import check_device, machine, now

    check_device(device)
    report = {
        "date": now(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": device,
        "rows": [],
    }
    click.echo(", ".join(f"{key} {value}" for key, value in report.items() if key != "rows"))
    click.echo(line(COLUMNS))
    if not AUTOGRAD.exists():
        click.echo(f"no {AUTOGRAD}: plain autograd is left out")

    def keep(rows: list) -> None:
        report["rows"] += rows
        for row in rows:
            click.echo(line(cells(row)))

    for cases in timing:
        there = [case for case in cases if case.way != "autograd" or AUTOGRAD.exists()]
        keep(timed(there, QUICK_REPEATS if quick else REPEATS, device))
    if spikes:
        click.echo("compiling spiking programs: some minutes", err=True)
        keep(spiking([name for name in spikes if BY_HAND.exists() or "by_hand" not in name], REPEATS))
    keep(remembered(memory, device))
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


main = partial(run_command, command, "cortexff.benchmark")

if __name__ == "__main__":
    share_processors()
    main()
