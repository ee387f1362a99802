"""Read many rows in a child process, so that a hang, a crash or much memory of one row is seen and named.

    results = watch(warm_function, folder, count, arguments)     # one Result for each row, in order

The child writes a line before and after each row. A row that takes too long is ended with its process, and a
new process goes on with the next row.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import limits
import warm

PATIENCE = 120.0  # seconds without a line until a row counts as hanging; the machine may be busy
SECONDS = 1.0  # of processor time for a row
MEGABYTES = 500  # that a row may take at most
ROOM = 3 << 30  # bytes of address space that the child may take besides what it has after the imports


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one row: `used`, a rule, `refused`; `fault` is empty if that is right."""

    case: str
    became: str
    fault: str
    seconds: float = 0.0
    megabytes: int = 0


def status(name: str) -> int:
    """A size of this process in kB, as Linux reports it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def limit_memory() -> None:
    """Import what reads tables, and give this process `ROOM` more bytes of address space than it has now."""
    import datasets  # noqa: F401 - the first row would be charged with the time of the import

    most = (status("VmSize") << 10) + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Notes:
    """The lines that a child writes about its rows."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open until the process ends

    def write(self, **line: Any) -> None:
        """Write a line at once."""
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    @contextmanager
    def measured(self, number: int, case: str, *, whole: bool = False) -> Iterator[dict[str, Any]]:
        """Write how a row begins and ends, with its time and its memory; fill in `became` and `fault`.

        The limit of the time is for one row: a `whole` table may take longer.
        """
        self.write(number=number, case=case)
        Path("/proc/self/clear_refs").write_text("5")  # forget the largest memory so far
        before, began, line = status("VmRSS"), time.process_time(), {"became": "", "fault": ""}
        yield line
        seconds, megabytes = time.process_time() - began, max(0, status("VmHWM") - before) >> 10
        if seconds > SECONDS * (2 if limits.busy() else 1) and not whole:
            line["fault"] = line["fault"] or f"took {seconds:.1f} s of processor time"
        if megabytes > (2 if whole else 1) * MEGABYTES:
            line["fault"] = line["fault"] or f"took {megabytes} MB"
        self.write(number=number, case=case, seconds=seconds, megabytes=megabytes, **line)


def watch(read: Callable[..., None], folder: Path, count: int, *arguments: Any) -> list[Result]:
    """Call `read(notes, start, *arguments)` in children until all rows have a result."""
    notes, results, starts = folder / f"{read.__name__}-notes.jsonl", {}, 0
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    while len(results) < count and starts < 20:
        starts += 1
        begun = len(results)
        process = warm.start(read, str(notes), begun, *arguments, cwd=folder, env=environment)
        try:
            code = _until_silent(process, notes)
        finally:
            process.kill()
            process.process.join(10)
        results, last = _read(notes)
        if len(results) < count:
            what = "hangs" if code is None else f"ended the process with {code}: {_last_line(process)}"
            case = last.get("case", "before the first row")
            results[len(results)] = Result(case, "", what)
            with notes.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps({"number": len(results) - 1, "case": case, "became": "", "fault": what}) + "\n"
                )
    return [results[number] for number in sorted(results)]


def _last_line(process: warm.Process) -> str:
    return (process.printed(1).strip().splitlines() or [""])[-1][:200]


def _until_silent(process: warm.Process, notes: Path) -> int | None:
    """The exit code of the child, or None if it wrote nothing for a long time."""
    size, since = -1, time.monotonic()
    while process.poll() is None:
        now = notes.stat().st_size if notes.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            return None
        time.sleep(0.1)
    return process.poll()


def _read(notes: Path) -> tuple[dict[int, Result], dict[str, Any]]:
    """The results so far by number, and the last line."""
    lines = (
        [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
        if notes.exists()
        else []
    )
    done = {
        line["number"]: Result(
            line["case"], line["became"], line["fault"], line.get("seconds", 0.0), line.get("megabytes", 0)
        )
        for line in lines
        if "became" in line
    }
    return done, lines[-1] if lines else {}
