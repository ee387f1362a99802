"""The progress of long work: a bar on a terminal, a line every 15 seconds elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 15.0  # seconds between lines if stderr is no terminal


def duration(seconds: float) -> str:
    """Seconds as a short text: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bar:
    """A progress bar: `with Bar("distill", 60) as bar: bar.advance("loss 0.12")`."""

    def __init__(self, title: str, total: int | None, start: int = 0, *, quiet: bool = False):
        self.title, self.total, self.done, self._first = title, total, start, start
        self._began = self._spoke = time.monotonic()
        self._quiet = quiet
        self._bar = None
        if sys.stderr.isatty() and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, completed=start, rate="", note="")

    def __enter__(self) -> Bar:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def skip(self, by: int) -> None:
        """Count work that was done before; it does not change the rate."""
        self.done, self._first = self.done + by, self._first + by

    def advance(self, note: str = "", by: int = 1, total: int | None = None) -> None:
        """Count finished work; `total` replaces the estimate of the whole work."""
        self.done += by
        self.total = total or self.total
        now = time.monotonic()
        rate = (self.done - self._first) / max(now - self._began, 1e-9)
        if self._bar:
            done = {"completed": self.done, "total": self.total}
            self._bar.update(self._task, **done, rate=f"{rate:.2f}/s", note=note)
        elif not self._quiet and (now - self._spoke >= EVERY or self.done == self.total):
            self._spoke = now
            left = (
                f"/{self.total}, {(self.total - self.done) / rate:.0f} s left" if self.total and rate else ""
            )
            print(
                f"{self.title} {self.done}{left}, {rate:.2f}/s  {note}",
                file=sys.stderr,
                flush=True,
            )
