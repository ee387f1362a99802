"""Kills in `vigos ablate`, with two cells side by side and with one after another."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import warm

from campaign import killing
from campaign.killing import Command, Ended, end_session, members, survivors, undisturbed
from campaign.trial import Outcome, Space, Trial

GROUP = "kills of ablate"
CELLS = ["ablate", "seed=1,2", "trainer.steps=3", "trainer.batch=4", "trainer.checkpoint_every=1"]
CELLS += ["bench.tasks.priorworld.rows=1", "bench.samples=1"]
SIDE_BY_SIDE = Command("ablate workers=2", [*CELLS, "workers=2"])
ONE_BY_ONE = Command("ablate workers=1", [*CELLS, "workers=1", "palr_rows=2"])


def trials(seed: int) -> list[Trial]:
    """The trials of this group."""
    found = [
        Trial(f"kill ablate {number}", GROUP, partial(_kill, whom=whom, kills=kills))
        for number, (whom, kills) in enumerate([(MAIN, 1), (WORKER, 1), (ALL, 1), (MAIN, 2)], 1)
    ]
    alone = partial(killing.kill_and_repeat, command=ONE_BY_ONE, choose=killing.anywhere, kills=2)
    return [*found, Trial("kill ablate one by one", GROUP, alone)]


# ---------------------------------------------------------------- whom to kill


def main_process(process: warm.Process) -> list[int]:
    """The process that starts the workers."""
    return [process.pid]


def one_worker(process: warm.Process) -> list[int]:
    """One of the two workers: the one that was started first."""
    return workers(process)[:1]


def whole_session(process: warm.Process) -> list[int]:
    """All processes, as a machine that is switched off ends them."""
    return [one.pid for one in members(process.pid)]


def workers(process: warm.Process) -> list[int]:
    """The workers of a sweep in the order of their start."""
    found = psutil.Process(process.pid).children()
    return [one.pid for one in found if "spawn_main" in " ".join(one.cmdline())]


# ---------------------------------------------------------------- the trial


MAIN, WORKER, ALL = "the main process", "one of its two workers", "all processes at once"
VICTIMS: dict[str, Callable[[warm.Process], list[int]]] = {
    MAIN: main_process,
    WORKER: one_worker,
    ALL: whole_session,
}


def _kill(space: Space, whom: str, kills: int) -> Outcome:
    whole, faults = undisturbed(space, SIDE_BY_SIDE), []
    seconds = _duration_of_cells(whole)
    for number in range(kills):
        wait = space.rng.uniform(0, 0.9 if number == 0 else 0.5) * seconds
        while (ended := _killed(space, VICTIMS[whom], wait)).codes == (0,) and number == 0:
            shutil.rmtree(space.folder / killing.RUN)  # it was done before the kill
            wait /= 2
        if ended.codes == (0,):
            break  # it had less left to do than this
        faults.append(ended)
    did = f"`vigos {SIDE_BY_SIDE.name}`: SIGKILL of {whom}" + (
        f", {len(faults)} times" if len(faults) > 1 else ""
    )
    expected = [1] if whom == WORKER else [-signal.SIGKILL]
    return killing.repeated(space, SIDE_BY_SIDE, whole, faults, did, expected)


def _duration_of_cells(whole: Path) -> float:
    """The seconds from the first file of a cell to the last one."""
    times = [path.stat().st_mtime for path in whole.glob("*/*.json")]
    return max(times) - min(times)


def _killed(space: Space, victims: Callable[[warm.Process], list[int]], wait: float) -> Ended:
    """Start the sweep, and kill some of its processes so many seconds after the first cell has begun."""
    out = space.folder / killing.RUN
    given = killing.arguments_of(space, SIDE_BY_SIDE, out)
    began, outputs = time.time(), (space.folder / "stdout", space.folder / "stderr")
    with killing.starting:
        process = warm.start(warm.vigos, given, cwd=space.folder, outputs=outputs, own_session=True)
    try:
        deadline = time.monotonic() + killing.PATIENCE
        while process.poll() is None and time.monotonic() < deadline and not _at_work(out, began):
            time.sleep(0.02)
        time.sleep(wait)
        doing = ", ".join(map(_state, sorted(out.glob("seed=*"))))
        if process.poll() is None:
            for victim in victims(process):
                os.kill(victim, signal.SIGKILL)
        code = process.wait(killing.PATIENCE)
        left = survivors(process.pid)
    finally:
        end_session(process.pid)
    return Ended((code,), doing, process.printed(1), tuple(left))


def _at_work(out: Path, began: float) -> bool:
    """Whether a worker has begun a cell, or goes on with one."""
    files = (path for name in ("config.json", "metrics.jsonl") for path in out.glob(f"*/{name}"))
    return any(path.stat().st_mtime > began for path in files)


def _state(cell: Path) -> str:
    """What a cell was doing, by its files."""
    name = cell.name.rpartition("-")[0]
    if (cell / "summary.json").exists():
        return f"{name} done"
    if (cell / "adapter").exists():
        return f"{name} evaluating after training"
    if (cell / "metrics.jsonl").exists():
        return f"{name} after step {(cell / 'metrics.jsonl').read_text().count(chr(10))}"
    return f"{name} evaluating before training" if (cell / "config.json").exists() else f"{name} starting"
