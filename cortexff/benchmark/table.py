"""A benchmark's rows for reading: lines of text while it runs, and the README's table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = Path("results") / "benchmark.json"


def cells(row: Mapping[str, Any]) -> list[str]:
    """Case, time or memory with its spread, time of an epoch, speed, share of the product rate, comparison."""
    if "megabytes" in row:
        what, speed = [f"{row['megabytes']:.0f} MB", ""], ["", ""]
    else:
        low, high = row["milliseconds_quartiles"]
        epoch = f"{row['seconds_per_epoch']:.0f} s" if "seconds_per_epoch" in row else ""
        what = [f"{row['milliseconds']:.4g} ms [{low:.4g}, {high:.4g}]", epoch]
        speed = [f"{row['gigaflops']:.0f} of {row['product_gigaflops']:.0f}", f"{100 * row['fraction_of_peak']:.0f} %"]
    beside = f"{row['ratio_of']} {row['ratio']:.2f} × {row['ratio_to']}" if "ratio" in row else ""
    return [row["case"], *what, *speed, beside]


def line(row: Mapping[str, Any]) -> str:
    """A row as one line of text."""
    case, *others = cells(row)
    return f"  {case:<36}" + "  ".join(cell for cell in others if cell)


def markdown(path: Path = KEPT) -> str:
    """A benchmark's file as Markdown: machine and date, then every row."""
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        f"{found['machine']}, {found['threads']} threads, torch {found['torch']}, {found['date'][:10]}.",
        "",
        "| case | time [quartiles] or memory | epoch | Gflop/s | of the product rate | beside |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(cells(row)) + " |" for row in found["rows"])])
