"""A benchmark's rows for reading: lines of text while it runs, and the README's table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cortexff.report.words import markdown_table

KEPT = "benchmark*.json"  # in results/, a file for each machine or part
COLUMNS = ("case", "time [quartiles] or memory", "epoch", "Gflop/s of product", "share", "beside")
WIDTHS = (36, 28, 6, 18, 6, 0)


def cells(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row: time or memory, time of an epoch, speed, share of the product rate, comparison."""
    if "megabytes" in row:
        what, speed = [f"{row['megabytes']:.0f} MB", ""], ["", ""]
    else:
        low, high = row["milliseconds_quartiles"]
        epoch = f"{row['seconds_per_epoch']:.0f} s" if "seconds_per_epoch" in row else ""
        what = [f"{row['milliseconds']:.4g} ms [{low:.4g}, {high:.4g}]", epoch]
        if "events_per_second" in row:
            speed = [f"{row['events_per_second'] / 1e6:.0f} M events/s", ""]
        else:
            product, share = row["product_gigaflops"], row["fraction_of_peak"]
            speed = [f"{row['gigaflops']:.0f} of {product:.0f}", f"{100 * share:.0f} %"]
    beside = f"{row['ratio_of']} {row['ratio']:.2f} × {row['ratio_to']}" if "ratio" in row else ""
    return [row["case"], *what, *speed, beside]


def line(columns: Sequence[str]) -> str:
    """A row, or the names of the columns, as one line of text."""
    return "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(columns, WIDTHS, strict=True)).rstrip()


def markdown(paths: Iterable[Path]) -> str:
    """Benchmarks' files as Markdown, one after the other: machine and date, then every row."""
    return "\n\n".join(map(_markdown, paths))


def _markdown(path: Path) -> str:
    found = json.loads(path.read_text(encoding="utf-8"))
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    about = f"{found['machine']}, {threads}, torch {found['torch']}, {found['date'][:10]}."
    return f"{about}\n\n{markdown_table(COLUMNS, [cells(row) for row in found['rows']])}"
