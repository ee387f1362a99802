"""Trials in which a folder is removed while a command uses it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import warm

from campaign import small_runs
from campaign.small_rows import write_rows
from campaign.trial import Outcome, Space, Trial

GROUP = "a folder that is removed"
Reached = Callable[[Path], bool]  # of a run's folder


def steps(number: int) -> Reached:
    """Whether a run has logged so many steps."""

    def reached(out: Path) -> bool:
        file = out / "metrics.jsonl"
        return file.exists() and file.read_bytes().count(b"\n") >= number

    return reached


def answers(number: int) -> Reached:
    """Whether an evaluation has written so many answers."""

    def reached(out: Path) -> bool:
        file = out / "responses.jsonl"
        return file.exists() and file.read_bytes().count(b"\n") >= number

    return reached


def started(out: Path) -> bool:
    """Whether a run has recorded its configuration."""
    return (out / "config.json").exists()


def remove_when(
    arguments: list[str], out: Path, place: Path, reached: Reached
) -> tuple[subprocess.CompletedProcess[str], bool]:
    """Run a command, and remove `place` as soon as `reached`; the command is stopped meanwhile."""
    process = warm.start(warm.vigos, arguments)
    removed = False
    until = time.monotonic() + small_runs.LIMIT
    try:
        while process.poll() is None and time.monotonic() < until and not removed:
            if reached(out):
                process.send_signal(signal.SIGSTOP)
                shutil.rmtree(place)
                removed = True
                process.send_signal(signal.SIGCONT)
            time.sleep(0.002)
        code = process.wait(small_runs.LIMIT)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, code, process.printed(0), process.printed(1)), removed


def removal(what: str, name: str, inside: str, reached: Reached) -> Trial:
    """A command whose folder, or one in it, is removed at a moment."""

    def run(space: Space) -> Outcome:
        out = space.folder / "run"
        more = []
        if name == "rows":
            more = [f"data.path={write_rows(space.folder / 'data', 8)}"]
        place = space.folder / inside
        done, removed = remove_when(small_runs.command(name, out, *more), out, place, reached)
        (space.folder / "stderr").write_text(done.stderr)
        if not removed:
            return Outcome(False, what, "removed", f"the moment did not come: {done.stderr[-200:]}")
        if done.returncode == 0:
            wrong = "exit code 0, and the results are not complete"
            if name != "rows":
                wrong = small_runs.difference(out, small_runs.whole(space, name))
            return Outcome(not wrong, what, "removed", wrong or "made again: the same bytes")
        wrong, said = small_runs.complaint(done), small_runs.lines_of(done)
        if not wrong and name != "rows":
            again = small_runs.command(name, out, "resume=auto", *more)
            wrong = again_wrong(again, out, small_runs.whole(space, name))
        came = wrong or said[0] + (". The command again: the same bytes" if name != "rows" else "")
        return Outcome(not wrong, what, "removed", small_runs.short(came, space.folder))

    return Trial(f"removed {what}", GROUP, run)


def again_wrong(arguments: list[str], out: Path, expected: Path) -> str:
    """What is wrong after the command was repeated; empty if it gave the same bytes."""
    again = warm.run(warm.vigos, arguments, timeout=small_runs.LIMIT)
    return again.stderr[-300:] if again.returncode else small_runs.difference(out, expected)


def trials(seed: int) -> list[Trial]:
    """The folder of a run, its checkpoints, and the pictures of its data."""
    return [
        removal("distill: out before training", "distill", "run", started),
        removal("distill: out in training", "distill", "run", steps(2)),
        removal("distill: out after training", "distill", "run", lambda out: (out / "adapter").exists()),
        removal("distill: the checkpoints", "distill", "run/checkpoints", steps(2)),
        removal("eval: out before the answers", "eval", "run", started),
        removal("eval: out between answers", "eval", "run", answers(4)),
        removal("rollout: out", "rollout", "run", started),
        removal("distill: the pictures of the data", "rows", "data/pictures", steps(1)),
        removal("distill: the whole data set", "rows", "data", steps(1)),
    ]
