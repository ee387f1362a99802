"""Trials with a clock that is wrong or jumps during a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import warm

from campaign import children, small_runs
from campaign.trial import Outcome, Space, Trial

GROUP = "a clock that jumps"
HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0
JUMPS = {"forwards by a day": DAY, "back by an hour": -HOUR, "back by a year": -YEAR}
MOST = small_runs.LIMIT  # seconds that any time in the results may have


def absurd_time(value: object, where: str = "") -> str:
    """The first time in a JSON value that is negative or too long; empty if there is none."""
    if isinstance(value, dict):
        return next(filter(None, (absurd_time(v, f"{where}.{k}") for k, v in value.items())), "")
    timed = re.search(r"seconds", where) and isinstance(value, int | float)
    return f"{where[1:]} is {value}" if timed and not 0 <= value <= MOST else ""  # pyright: ignore[reportOperatorIssue]


def judged(space: Space, done: subprocess.CompletedProcess[str], name: str, did: str) -> Outcome:
    """The result of a run under a wrong clock: the same bytes, and no absurd time."""
    out = space.folder / "run"
    (space.folder / "stderr").write_text(done.stderr)
    wrong = f"exit code {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""
    wrong = wrong or small_runs.difference(out, small_runs.whole(space, name))
    for file in (*out.rglob("summary.json"), *out.rglob("scores.json")):
        wrong = wrong or absurd_time(json.loads(file.read_text()))
    for line in (out / "metrics.jsonl").read_text().splitlines() if (out / "metrics.jsonl").exists() else ():
        wrong = wrong or absurd_time(json.loads(line))
    if shown := re.search(r"-\d+ ?(?:s|min|h)\b|-\d[\d.]* ?tokens/s|\d{5,} ?(?:min|h)\b", done.stderr):
        wrong = wrong or f"the progress shows {shown[0]}"
    return Outcome(
        not wrong, name, did, small_runs.short(wrong or "the same bytes, and times that are true", out)
    )


def jump(name: str, what: str, seconds: float) -> Trial:
    """The clock jumps while a command runs."""

    def run(space: Space) -> Outcome:
        after = space.rng.uniform(0.0, 1.5)
        arguments = small_runs.command(name, space.folder / "run")
        done = warm.run(children.with_clock, arguments, seconds, after, timeout=small_runs.LIMIT)
        return judged(space, done, name, f"the clock went {what} after {after:.1f} s")

    return Trial(f"clock {name} {what}", GROUP, run)


def wrong_clock(what: str, offset: str) -> Trial:
    """A new process whose clock, also that of C code, is replaced by libfaketime; other clocks stay."""

    def run(space: Space) -> Outcome:
        name = "distill"
        if shutil.which("faketime") is None:
            return Outcome(True, name, what, "not tried: libfaketime is not installed", 0)
        path = os.pathsep.join([str(Path(warm.SOURCE)), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": path}
        arguments = small_runs.command(name, space.folder / "run")
        done = subprocess.run(
            ["faketime", "-f", offset, sys.executable, "-m", "vigos_cli", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=2 * small_runs.LIMIT,
        )
        return judged(space, done, name, what)

    return Trial(f"clock {what}", GROUP, run)


def trials(seed: int) -> list[Trial]:
    """Jumps of Python's clock in every command, and whole runs with another date."""
    made = [jump(name, what, by) for name in ("distill", "eval", "rollout") for what, by in JUMPS.items()]
    return [
        *made,
        wrong_clock("the clock was a year behind", "-1y"),
        wrong_clock("the clock ran a hundred times as fast", "+0 x100"),
    ]
