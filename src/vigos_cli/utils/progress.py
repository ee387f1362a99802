"""The progress of long work: a bar on a terminal, a line every 15 seconds elsewhere.

    with Bar("priorworld", 240, answers=3) as bar:       # 240 items with three sampled answers each
        sampled(tokens=512, answers=0.8)                 # from inside a batch: shown by the innermost bar
        bar.advance(by=32)

        with bar.phase("teachers score the answers"):    # work after sampling, of unknown length
            ...

    priorworld 0/240, at most 38 min left, 5,120 tokens, 310 tokens/s
    priorworld 0/240, 12 min so far, 40,960 tokens, 310 tokens/s  teachers score the answers

A line is also written while nothing is counted, for example while a model reads its prompts.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vigos_cli.utils.console import Terminal
from vigos_cli.utils.control_characters import visible

EVERY = 15.0  # seconds between lines if stderr is no terminal
_open: list[Bar] = []  # the bars that are shown now, the innermost last


def duration(seconds: float) -> str:
    """Seconds as a short text: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sampled(tokens: int, answers: float) -> None:
    """Count sampled tokens and answers (a part of an answer is a fraction) for the innermost open bar."""
    if _open:
        _open[-1].sampled(tokens, answers)


class Bar:
    """A progress bar: `with Bar("distill", 60) as bar: bar.advance("loss 0.12")`.

    `answers` is the number of sampled answers that one unit of work needs, if sampling is the work. With it
    the time left is known inside a unit.
    """

    def __init__(
        self, title: str, total: int | None, start: int = 0, *, answers: float = 0, quiet: bool = False
    ):
        self.title, self.total, self.done, self._first = title, total, start, start
        self._answers, self._tokens, self._part, self._note = answers, 0, 0.0, ""
        self._began = self._advanced = time.monotonic()
        self._phase, self._entered, self._paused = "", 0.0, 0.0
        self._quiet, self._ended = quiet, threading.Event()
        self._bar = None
        if sys.stderr.isatty() and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Terminal(stderr=True),
            )
            self._task = self._bar.add_task(visible(title), total=total, completed=start, rate="", note="")

    def __enter__(self) -> Bar:
        _open.append(self)
        if self._bar:
            self._bar.start()
        elif not self._quiet:
            threading.Thread(target=self._write_lines, name="progress", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        _open.remove(self)
        self._ended.set()
        if self._bar:
            self._bar.stop()

    def skip(self, by: int) -> None:
        """Count work that was done before; it does not change the rate."""
        self.done, self._first = self.done + by, self._first + by

    def advance(self, note: str = "", by: int = 1, total: int | None = None) -> None:
        """Count finished work; `total` replaces the estimate of the whole work."""
        self.done, self._part, self._note = self.done + by, 0.0, note
        self.total, self._advanced = total or self.total, time.monotonic()
        self._show()
        if not (self._bar or self._quiet) and self.done == self.total:
            self._write()

    def sampled(self, tokens: int, answers: float) -> None:
        """Count sampled tokens and answers of the unit of work that is not finished yet."""
        self._tokens += tokens
        if self._answers:
            self._part += answers / self._answers
        self._show()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name work on the current unit that samples nothing; its time does not lower the rate of tokens."""
        self._phase, self._entered = name, time.monotonic()
        self._show()
        try:
            yield
        finally:
            self._paused += time.monotonic() - self._entered
            self._phase = ""

    def _show(self) -> None:
        if self._bar:
            done = {"completed": self.done + self._part, "total": self.total}
            self._bar.update(self._task, **done, rate=self._rate(), note=visible(self._phase or self._note))

    def _write_lines(self) -> None:
        """Write a line every `EVERY` seconds until the bar is closed."""
        while not self._ended.wait(EVERY):
            self._write()

    def _write(self) -> None:
        print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """The progress as one line of text."""
        share = f"/{self.total}" if self.total else ""
        parts = [f"{self.title} {self.done}{share}", self._left(), self._rate()]
        note = self._phase or self._note
        return ", ".join(filter(None, parts)) + (f"  {note}" if note else "")

    def _rate(self) -> str:
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        if self._tokens:
            seconds = max((self._entered if self._phase else now) - self._began - self._paused, 1e-9)
            rate = self._tokens / seconds
            return f"{self._tokens:,} tokens, {f'{rate:.0f}' if rate >= 10 else f'{rate:.2g}'} tokens/s"
        return f"{(self.done - self._first) / seconds:.2f}/s" if self.done > self._first else ""

    def _left(self) -> str:
        """The time left; at most this time if no unit is finished yet, because answers may end early."""
        part = 0.0 if self._phase else self._part  # the rest of the unit takes a time that is not known
        now, finished = time.monotonic(), self.done - self._first + part
        if not self.total or not finished:
            return f"{duration(now - self._began)} so far"
        known = now if part else self._advanced  # the time at which so much was finished
        left = (known - self._began) / finished * (self.total - self.done - part) - (now - known)
        return f"{'at most ' if self.done == self._first else ''}{duration(max(0.0, left))} left"
