"""Shows how far a run has come, and hears Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cortexff.protocol.runner import Listener

SECONDS_OF_SILENCE = 10  # the longest that a run written as text says nothing


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


class Progress:
    """Shows how far a run has come, and hears Ctrl-C and SIGTERM."""

    def __init__(self, style: str | None, updates: int, say: Callable[[str], None]) -> None:
        self.style = style or ("bar" if sys.stderr.isatty() else "text")
        self.total = updates
        self.done, self.say, self.stopping, self.said = 0, say, 0, time.monotonic()
        self.stage, self.started, self.done_before = "", self.said, 0

    def __enter__(self) -> Listener:
        from tqdm import tqdm

        from cortexff.protocol.runner import Listener

        self.bar = tqdm(
            total=self.total, unit="update", disable=self.style != "bar", dynamic_ncols=True, file=sys.stderr
        )
        self.handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return Listener(
            advanced=self._advanced,
            probed=self._probed,
            noted=self._noted,
            stop=lambda: self.stopping > 0,
            began=self._began,
            resumed=self._resumed,
        )

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.stopping == number:  # asked twice: stop at once
            raise KeyboardInterrupt
        self.stopping = self.stopping or number  # batch systems and torchrun send signals of their own, also twice

    def _advanced(self, updates: int) -> None:
        self.done += updates
        self.bar.update(updates)
        if self.style == "text" and time.monotonic() - self.said > SECONDS_OF_SILENCE:
            self._say(" ".join(filter(None, [self.stage, "...", self._left()])))

    def _left(self) -> str:
        """How long the rest takes if updates go on as fast as those of this run so far."""
        done = self.done - self.done_before
        seconds = (time.monotonic() - self.started) / max(done, 1) * (self.total - self.done)
        return f"about {duration(seconds)} left at this pace" if done > 0 else ""

    def _resumed(self, updates: int) -> None:
        self.done += updates
        self.done_before += updates
        self.bar.n = self.bar.initial = self.done_before

    def _began(self, stage: str) -> None:
        self.stage = stage
        if self.style == "bar":
            self.bar.set_description(stage)
        elif self.style == "text":
            self._say(f"{stage} ...")

    def _probed(self, group: str, update: int, words: str) -> None:
        if self.style == "bar":
            self.bar.set_postfix_str(words.split("  ")[0])
        elif self.style == "text":
            self._say(f"{group:<20} update {update:>5}  {words}")

    def _noted(self, text: str) -> None:
        if self.style == "bar":
            self.bar.write(text, file=sys.stderr)
        elif self.style == "text":
            self._say(text)

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        self.say(f"[{self.done:>6}/{self.total}] {text}")
