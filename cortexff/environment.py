"""When and where something was computed, in words that are kept beside it."""

from __future__ import annotations

import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path

from cortexff.errors import CortexffError


def now() -> str:
    """Date and time, UTC, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine() -> str:
    """Processor and number of cores, in words."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass  # not Linux
    return f"{processor}, {os.cpu_count()} cores"


def share_processors() -> None:
    """Let threads that wait for one another sleep soon, so that they do not fight over a busy processor.

    To be called before PyTorch is imported. Threads of GNU's OpenMP else wait for milliseconds at full speed: beside
    one busy process, an update of ten subjects on two cores took fifty times as long; now it takes two to three times.
    On a quiet machine small nets lose up to a fifth. What the user has said in the environment stands.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def check_device(device: str) -> None:
    """Raises CortexffError where a GPU is asked for and there is none."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise CortexffError("--device cuda: this PyTorch sees no CUDA device; leave the option out to use the CPU")


def compiler() -> str | None:
    """The C++ compiler that Brian2's programs are made with; None where there is none."""
    return shutil.which("g++") or shutil.which("clang++")
