"""Trials with a terminal, a shell or an environment that is poor: outputs, encodings, files and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import warm

from campaign import children, disk, small_runs
from campaign.trial import Outcome, Space, Trial

GROUP = "a poor environment"
NAMES = ("distill", "eval", "rollout")


def finished(space: Space, name: str, did: str, done: subprocess.CompletedProcess[str]) -> Outcome:
    """The same bytes; or one line, and the same bytes after the command was repeated."""
    out = space.folder / "run"
    (space.folder / "stderr").write_text(done.stderr)
    expected = small_runs.whole(space, name)
    if done.returncode == 0:
        noise = "Traceback" in done.stderr or "Exception ignored" in done.stderr
        wrong = done.stderr[-300:] if noise else small_runs.difference(out, expected)
        return Outcome(not wrong, name, did, small_runs.short(wrong or "the same bytes", out))
    wrong, said = small_runs.complaint(done), small_runs.lines_of(done)
    if not wrong:
        again = warm.run(warm.vigos, small_runs.command(name, out, "resume=auto"), timeout=small_runs.LIMIT)
        wrong = again.stderr[-300:] if again.returncode else small_runs.difference(out, expected)
    came = wrong or f"{said[0]}. The command again: the same bytes"
    return Outcome(not wrong, name, did, small_runs.short(came, out))


def output(name: str, number: int) -> Trial:
    """Nobody reads what the command prints, as after `| head -1`."""
    stream = ("", "stdout", "stderr")[number]

    def run(space: Space) -> Outcome:
        arguments = small_runs.command(name, space.folder / "run")
        done = warm.run(children.with_output, arguments, number, "", timeout=small_runs.LIMIT)
        if done.returncode and number == 2:  # it cannot say anything
            return Outcome(False, name, f"{stream} was closed", f"exit code {done.returncode}")
        return finished(space, name, f"{stream} was closed", done)

    return Trial(f"environment {name} {stream} closed", GROUP, run)


def full_output(name: str) -> Trial:
    """What the command prints goes to a full disk, and its results to another one."""

    def run(space: Space) -> Outcome:
        arguments = small_runs.command(name, space.folder / "run")
        done = warm.run(children.with_output, arguments, 1, "/dev/full", timeout=small_runs.LIMIT)
        return finished(space, name, "stdout went to a full disk", done)

    return Trial(f"environment {name} stdout full", GROUP, run)


def ascii_terminal(name: str) -> Trial:
    """A terminal that shows only ASCII, and a folder whose name has other characters."""

    def run(space: Space) -> Outcome:
        out = space.folder / "lauf-\u00e4\u4e2d"
        environment = {**os.environ, "LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        arguments = [*small_runs.COMMANDS[name], f"out='{out}'"]
        done = warm.run(
            children.with_output, arguments, 0, "", "ascii", env=environment, timeout=small_runs.LIMIT
        )
        if out.exists():
            out.rename(space.folder / "run")
        return finished(space, name, "a terminal that shows ASCII only", done)

    return Trial(f"environment {name} ascii", GROUP, run)


def ascii_start() -> Trial:
    """A new process in the locale C without UTF-8, which reads and writes its own files as ASCII."""

    def run(space: Space) -> Outcome:
        path = os.pathsep.join([str(Path(warm.SOURCE)), os.environ.get("PYTHONPATH", "")])
        environment = {
            **os.environ, "LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0",
            "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1", "PYTHONPATH": path,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "vigos_cli", *small_runs.command("distill", space.folder / "run")],
            env=environment, capture_output=True, text=True, timeout=2 * small_runs.LIMIT,
        )  # fmt: skip
        return finished(space, "distill", "LC_ALL=C, PYTHONUTF8=0 and PYTHONIOENCODING=ascii", done)

    return Trial("environment distill in the locale C", GROUP, run)


def limit(name: str, what: str, kind: str, value: int) -> Trial:
    """A shell with a limit."""

    def run(space: Space) -> Outcome:
        arguments = small_runs.command(name, space.folder / "run")
        done = warm.run(children.limited, arguments, {kind: value}, timeout=small_runs.LIMIT)
        return finished(space, name, what, done)

    return Trial(f"environment {name} {what}", GROUP, run)


def full_temporary(name: str) -> Trial:
    """Temporary files are on a full disk."""

    def run(space: Space) -> Outcome:
        place = space.folder / "disk"
        with disk.small_disk(place) as made:
            if not made:
                return Outcome(True, name, "TMPDIR was full", "not tried: this user may not mount", 0)
            disk.fill(place, 0)
            environment = {**os.environ, "TMPDIR": str(place)}
            arguments = small_runs.command(name, space.folder / "run")
            done = warm.run(warm.vigos, arguments, env=environment, timeout=small_runs.LIMIT)
            return finished(space, name, "TMPDIR was on a full disk", done)

    return Trial(f"environment {name} temporary files", GROUP, run)


def trials(seed: int) -> list[Trial]:
    """Outputs, encodings, limits and temporary files."""
    return [
        *(output(name, number) for name in NAMES for number in (1, 2)),
        *map(full_output, NAMES),
        *map(ascii_terminal, NAMES),
        ascii_start(),
        *(limit(name, f"ulimit -n {n}", "RLIMIT_NOFILE", n) for name in NAMES for n in (14, 64)),
        limit("ablate", "ulimit -n 64", "RLIMIT_NOFILE", 64),
        *(limit(name, "ulimit -f 8 kB", "RLIMIT_FSIZE", 8 << 10) for name in NAMES),
        *map(full_temporary, NAMES),
    ]
