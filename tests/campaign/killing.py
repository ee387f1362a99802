"""End a command at a random moment, repeat it, and compare with an undisturbed run."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import warm

from campaign import diary
from campaign.diary import Moment, Piece
from campaign.same_bytes import different
from campaign.trial import Outcome, Space

PATIENCE = 300.0  # seconds in which a process must end on a busy machine
RUN = "run"  # the folder of each run, so that pages with its name are the same


@dataclass(frozen=True, slots=True)
class Command:
    """A command that trials end and repeat; `out=` is added to its arguments."""

    name: str
    arguments: Sequence[str]
    data: Callable[[Path], Sequence[str]] | None = None  # writes data into a folder, returns arguments
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command has ended."""

    codes: tuple[int, ...]  # of each process; negative: by a signal
    doing: str  # what it was doing at its end
    printed: str  # what the processes wrote to stderr
    left: tuple[int, ...]  # processes of it that still ran some seconds later
    seconds: tuple[float, ...] = ()  # from the first end of a process to the end of each


Choice = Callable[[random.Random, Path], Moment]  # a moment, from random numbers and an undisturbed run

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_whole: dict[tuple[str, str], Path] = {}
starting = threading.Lock()


def undisturbed(space: Space, command: Command) -> Path:
    """The folder of the command without a fault, run once in each campaign; its diary is beside it."""
    with starting:
        lock = _locks[command.name]
    with lock:
        key = (str(space.shared), command.name)
        if key not in _whole:
            place = space.shared / re.sub(r"\W+", "-", command.name)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            ended = run(space, command, place / RUN, place / "diary")
            assert set(ended.codes) == {0}, f"{command.name} does not run: {ended.printed[-500:]}"
            _whole[key] = place / RUN
        return _whole[key]


def diary_of(whole: Path) -> Path:
    """The diary of an undisturbed run (of the first process)."""
    alone = whole.parent / "diary"
    return alone if alone.exists() else whole.parent / "diary.0"


def arguments_of(space: Space, command: Command, out: Path) -> list[str]:
    """The whole command line; the data of a command are written once for all its trials."""
    data: Sequence[str] = ()
    if command.data:
        place = space.shared / re.sub(r"\W+", "-", f"data of {command.name}")
        data = command.data(place)
    return [*command.arguments, *data, "resume=auto", f"out={out}"]


def run(
    space: Space,
    command: Command,
    out: Path,
    book: Path,
    moments: Sequence[Moment] = (),
    rank: str | None = None,
) -> Ended:
    """Run the command until it ends, by itself or at a moment; nothing of it is left behind."""
    given = (diary.vigos, arguments_of(space, command, out), str(book), str(out), tuple(moments), rank)
    with starting:
        if command.processes == 1:
            started = [warm.start(*given, cwd=out.parent, own_session=True)]
        else:
            started = warm.start_both(*given, cwd=out.parent, own_session=True)
    try:
        deadline, ends = time.monotonic() + PATIENCE, [0.0] * len(started)
        while not all(ends) and time.monotonic() < deadline:
            for i, process in enumerate(started):
                if not ends[i] and process.poll() is not None:
                    ends[i] = time.monotonic()
            time.sleep(0.02)
        codes = tuple(-999 if (code := process.poll()) is None else code for process in started)
        left = tuple(pid for process in started for pid in survivors(process.pid))
    finally:
        for process in started:
            end_session(process.pid)
    books = [book] if command.processes == 1 else [book.with_name(f"{book.name}.{i}") for i in range(2)]
    dead = next((i for i, code in enumerate(codes) if code < 0), 0)
    for process, name in zip(started, books, strict=True):  # for whoever looks at a trial with a fault
        name.with_name(f"{name.name}.stderr").write_text(process.printed(1))
    first = min(filter(None, ends), default=0.0)
    return Ended(
        codes,
        diary.doing(books[dead]),
        "".join(process.printed(1) for process in started),
        left,
        tuple(end - first for end in ends),
    )


def members(session: int) -> list[psutil.Process]:
    """The running processes of a session."""
    found = []
    for one in psutil.process_iter():
        try:
            if os.getsid(one.pid) == session and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def survivors(session: int, seconds: float = 15.0) -> list[int]:
    """The processes of a session that run on after these seconds; empty as soon as there is none."""
    deadline = time.monotonic() + seconds
    while (left := members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [one.pid for one in left]


def end_session(session: int) -> None:
    """Kill every process of a session."""
    for one in members(session):
        one.kill()


# ---------------------------------------------------------------- moments


def anywhere(rng: random.Random, whole: Path) -> Moment:
    """A moment that is uniform over the duration of the undisturbed run."""
    return _inside(rng, diary.pieces(diary_of(whole)))


def during(rng: random.Random, whole: Path, phases: Sequence[str]) -> Moment:
    """A moment that is uniform over the time of these phases."""
    return _inside(rng, [piece for piece in diary.pieces(diary_of(whole)) if piece.phase in phases])


def _inside(rng: random.Random, pieces: Sequence[Piece]) -> Moment:
    piece = rng.choices(pieces, [piece.seconds for piece in pieces])[0]
    return Moment(piece.phase, piece.occurrence, piece.since + rng.random() * piece.seconds)


def at_change(rng: random.Random, whole: Path, phases: Sequence[str]) -> Moment:
    """Before a random change of a file in these phases; the file being written may be cut."""
    found = [
        Moment(phase, occurrence, change=change)
        for phase in phases
        for occurrence, count in enumerate(diary.changes(diary_of(whole), phase), 1)
        for change in range(1, count + 1)
    ]
    return replace(rng.choice(found), share=rng.random())


# ---------------------------------------------------------------- the verdict


def complaints(ended: Ended) -> list[str]:
    """What a command must never do, however it ends."""
    found = ["a traceback"] if "Traceback" in ended.printed else []
    if -999 in ended.codes:
        found.append(f"a hang: not ended after {PATIENCE:.0f} s")
    if ended.left:
        found.append(f"{len(ended.left)} processes were left")
    return found


def said(ended: Ended) -> list[str]:
    """The lines of the program itself on stderr."""
    return [line for line in ended.printed.splitlines() if line.startswith("vigos: ")]


def ended_at(space: Space, command: Command, moments: Sequence[Moment], book: Path) -> Ended:
    """Run the command until it gets its signals.

    If it has ended before, because the machine was less busy than for the undisturbed run, it is started anew
    with earlier moments.
    """
    ended = run(space, command, space.folder / RUN, book, moments)
    while ended.codes == (0,) and any(not one.change and one.seconds > 0.01 for one in moments):
        shutil.rmtree(space.folder / RUN)
        book.unlink()
        moments = [replace(one, seconds=one.seconds / 2) for one in moments]
        ended = run(space, command, space.folder / RUN, book, moments)
    return ended


def repeated(
    space: Space, command: Command, whole: Path, faults: Sequence[Ended], did: str, expected: Sequence[int]
) -> Outcome:
    """Repeat the command after its faults, and compare its folder with that of the undisturbed run."""
    after = run(space, command, space.folder / RUN, space.folder / "last")
    wrong = [line for ended in (*faults, after) for line in complaints(ended)]
    for ended in faults:
        if not set(ended.codes) <= set(expected):
            wrong.append(f"exit codes {ended.codes} at the fault: {' / '.join(said(ended))}")
    if set(after.codes) != {0}:
        wrong.append(f"exit codes {after.codes} of the repeated command: {after.printed.strip()[-300:]}")
    else:
        wrong += different(whole, space.folder / RUN)
    moment = "; then ".join(ended.doing for ended in faults)
    return Outcome(not wrong, moment, did, "; ".join(wrong) or "the same bytes")


def kill_and_repeat(space: Space, command: Command, choose: Choice, kills: int = 1) -> Outcome:
    """Kill a run at a moment, and its repetitions at further moments, then let it end."""
    whole = undisturbed(space, command)
    faults = [ended_at(space, command, [choose(space.rng, whole)], space.folder / "diary-1")]
    total = sum(piece.seconds for piece in diary.pieces(diary_of(whole)))
    for number in range(2, kills + 1):
        moment = Moment(seconds=space.rng.uniform(0, 0.7 * total))
        ended = run(space, command, space.folder / RUN, space.folder / f"diary-{number}", [moment])
        if ended.codes == (0,):
            break  # it had less left to do than this
        faults.append(ended)
    did = "SIGKILL" if len(faults) == 1 else f"SIGKILL, {len(faults)} times"
    return repeated(space, command, whole, faults, f"`vigos {command.name}`: {did}", [-signal.SIGKILL])


def signal_and_repeat(
    space: Space, command: Command, choose: Callable[[random.Random, Path], Sequence[Moment]], did: str
) -> Outcome:
    """Interrupt a run, then let it go on; it must say so in one line, and end with exit code 130."""
    whole = undisturbed(space, command)
    ended = ended_at(space, command, choose(space.rng, whole), space.folder / "diary-1")
    outcome = repeated(space, command, whole, [ended], f"`vigos {command.name}`: {did}", [130])
    if outcome.right and (lines := said(ended)) != ["vigos: interrupted"]:
        return replace(outcome, right=False, came_back=f"it printed {lines} on the signal")
    return (
        replace(outcome, came_back="`vigos: interrupted`, then the same bytes") if outcome.right else outcome
    )
