"""Trials with a full disk, at several moments of each command."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import warm

from campaign import small_runs
from campaign.trial import Outcome, Space, Trial

GROUP = "a full disk"
SIZE = 64 << 20  # bytes of the small disk
DETACH = 2  # umount2: at once, even if a file is open
# Kilobytes that are free at the start. The first are too few for any file, the last nearly enough.
FREE = {
    "distill": (0, 40, 1700, 3300, 5000, 6000),
    "eval": (0, 20, 28, 48, 70),
    "rollout": (0, 20, 36, 60, 90),
    "ablate": (0, 60, 1500, 14000),
    "merge": (0, 900, 5000),
}


def mounted(place: Path) -> bool:
    """Mount a small file system in memory; False if this user may not."""
    place.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    try:
        return subprocess.run(["mount", *options], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """A small disk as long as the block runs; yields whether it could be made."""
    made = mounted(place)
    try:
        yield made
    finally:
        if made:
            ctypes.CDLL(None, use_errno=True).umount2(str(place).encode(), DETACH)


def fill(disk: Path, free: int) -> None:
    """Leave `free` kilobytes on the disk."""
    room = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - (free << 10)))


def newest(out: Path) -> str:
    """The moment of the fault: the file that the command wrote last."""
    written = [file for file in out.rglob("*") if file.is_file() and ".hydra" not in file.parts]
    if not written:
        return "before the first file"
    last = max(written, key=lambda file: file.stat().st_mtime_ns)
    return small_runs.short(f"after {last.relative_to(out)}")


def full_disk(name: str, least: int, most: int) -> Trial:
    """A command whose disk has between `least` and `most` free kilobytes at its start."""

    def run(space: Space) -> Outcome:
        expected = small_runs.whole(space, name)
        more = [f"adapter.path={small_runs.adapter(space)}"] if name == "merge" else []
        disk = space.folder / "disk"
        free = space.rng.randrange(least, most)
        did = f"the disk had {free} kB left"
        with small_disk(disk) as made:
            if not made:
                return Outcome(True, name, did, "not tried: this user may not mount a file system", 0)
            fill(disk, free)
            out = disk / "run"
            done = warm.run(warm.vigos, small_runs.command(name, out, *more), timeout=small_runs.LIMIT)
            (space.folder / "stderr").write_text(done.stderr)
            moment = f"{name}: {newest(out)}"
            said = small_runs.lines_of(done)
            if done.returncode == 0:
                wrong = small_runs.difference(out, expected) or ""
                return Outcome(not wrong, f"{name}: at its end", did, wrong or "it was enough")
            lines = 3 if name == "ablate" else 1  # one for each cell, and one for the sweep
            wrong = small_runs.complaint(done, lines=lines)
            if not wrong and not all("disk is full" in line and str(disk) in line for line in said):
                wrong = f"not the reason: {said}"
            if wrong:
                return Outcome(False, moment, did, small_runs.short(wrong, out))
            (disk / "filler").unlink()
            again = warm.run(
                warm.vigos, small_runs.command(name, out, "resume=auto", *more), timeout=small_runs.LIMIT
            )
            (space.folder / "stderr").write_text(done.stderr + again.stderr)
            if again.returncode:
                wrong = f"exit code {again.returncode} with space: {small_runs.lines_of(again)}"
            wrong = wrong or small_runs.difference(out, expected)
            came = wrong or f"{said[0]}. With space again: the same bytes"
            return Outcome(not wrong, moment, did, small_runs.short(came, out))

    return Trial(f"full disk {name} {least}", GROUP, run)


def trials(seed: int) -> list[Trial]:
    """Every command, with a disk that is full earlier or later."""
    made = []
    for name, sizes in FREE.items():
        made += [full_disk(name, *pair) for pair in pairwise(sizes)]
    return made
