"""Code of a process that runs vigos, keeps a diary, and sends itself a signal at one moment.

    warm.start(diary.vigos, ["distill", "out=RUN"], "diary", "RUN", [Moment("saving best/", 2, change=3)])

The diary has a line for the begin and the end of each phase, and one for each change of a file in the
folder of the run (a file is opened for writing, renamed or deleted; a folder is made or deleted). A moment is
so many seconds after the begin of a phase, or directly before one of its changes. In the second case the file
that was being written can be cut first, which leaves what a kill in the middle of the writing would leave.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import warm

START = "starting"  # from the start of the process to the first phase
EVALUATING = "evaluating between steps"

# A function by module and name, as it is looked up when it is called, and what the program does in it.
PHASES = {
    ("training.distill", "load_student"): "loading the model",
    ("training.distill", "_measure_before"): "evaluating before training",
    ("training.loop", "train_step"): "a step",
    ("training.step", "sample_rollouts"): "sampling rollouts",
    ("training.step", "read_teachers"): "reading the teachers",
    ("training.step", "hidden_states"): "reading the student",
    ("training.step", "score_call"): "computing the loss",
    ("evaluation.training_evaluation", "TrainingEvaluation.run"): EVALUATING,
    ("training.loop", "save_learner"): "saving a checkpoint",
    ("training.loop", "save_best"): "saving best/",
    ("training.best_adapter", "save_adapter"): "saving best/",
    ("training.distill", "save_adapter"): "saving adapter/",
    ("training.distill", "_measure_after"): "evaluating after training",
    ("training.distill", "write_results"): "writing the results",
    ("evaluation.asker", "load_student"): "loading the model",
    ("evaluation.asker", "answer"): "sampling answers",
    ("evaluation.evaluate", "_save"): "writing verdicts, scores and the page",
    ("analysis.rollout_run", "load_student"): "loading the model",
    ("analysis.rollout_run", "_lines"): "sampling and scoring rollouts",
    ("analysis.rollout_run", "_page"): "writing the page",
    ("models.merge", "load_student"): "loading the model",
    ("models.merge", "_hidden"): "comparing the merged model",
    ("models.merge", "write_json"): "writing merge.json",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """When a process sends itself a signal."""

    phase: str = START
    occurrence: int = 1  # of the phase
    seconds: float = 0.0  # after the begin of the phase; not used with a change
    change: int = (
        0  # directly before this change of a file since the begin of the phase; 0: after the seconds
    )
    share: float | None = None  # cut the file that is being written to this share
    number: int = signal.SIGKILL


class Diary:
    """The diary of this process."""

    def __init__(self, file: str, out: str, moments: Sequence[Moment]) -> None:
        self.file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.out, self.moments, self.pid = out, moments, os.getpid()
        self.begun: Counter[str] = Counter()
        self.since: dict[tuple[str, int], int] = {}  # changes of files since the begin of a phase
        self.writing: tuple[str, int] | None = None  # the file that was opened last, and its size before
        self.busy = False

    def note(self, what: str) -> None:
        os.write(self.file, f"{time.monotonic():.4f} {what}\n".encode())

    def begin(self, phase: str) -> None:
        self.note(f"begin {phase}")
        self.begun[phase] += 1
        self.since[phase, self.begun[phase]] = 0
        for moment in self.moments:
            if (moment.phase, moment.occurrence) == (phase, self.begun[phase]) and not moment.change:
                timer = threading.Timer(moment.seconds, self.send, (moment.number,))
                timer.daemon = True
                timer.start()

    def change(self, what: str, path: str, opened: bool) -> None:
        """A change that the next instruction makes."""
        self.note(f"change {what} {os.path.relpath(path, self.out)}")
        for key in self.since:
            self.since[key] += 1
        for moment in self.moments:
            if moment.change and self.since.get((moment.phase, moment.occurrence)) == moment.change:
                if moment.share is not None and self.writing:
                    self.cut(*self.writing, moment.share)
                self.send(moment.number)
        size = os.path.getsize(path) if opened and os.path.exists(path) else 0
        self.writing = (path, size if "append" in what else 0) if opened else None

    def send(self, number: int) -> None:
        """Send this process a signal."""
        self.note(f"signal {number}")
        os.kill(self.pid, number)

    def cut(self, path: str, before: int, share: float) -> None:
        if os.path.exists(path):
            size = before + int(share * (os.path.getsize(path) - before))
            self.note(f"cut {os.path.relpath(path, self.out)} to {size} bytes")
            os.truncate(path, size)

    def hook(self, event: str, given: tuple[Any, ...]) -> None:
        """Called by Python before it opens, renames or deletes a file; see `sys.addaudithook`."""
        if self.busy or os.getpid() != self.pid:
            return
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        self.busy = True  # what this method opens is no change
        try:
            path = given[0]
            if event == "open":
                writes = (given[2] or 0) & (os.O_WRONLY | os.O_RDWR) and not isinstance(path, int)
                if not writes:
                    return
            folder = next((one for one in given[1:] if isinstance(one, int) and one > 0), None)
            path = os.fsdecode(str(path) if isinstance(path, int) else path)
            if event in ("os.remove", "os.rmdir") and folder and not os.path.isabs(path):
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
            path = os.path.abspath(path)
            if not path.startswith(self.out + os.sep) or path.endswith((".lock", ".log")):
                return
            what = event.removeprefix("os.")
            if event == "open" and given[2] & os.O_APPEND:
                what = "append to"
            self.change(what, path, event == "open")
        finally:
            self.busy = False


def _noted(function: Callable[..., Any], phase: str, diary: Diary) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*given: Any, **options: Any) -> Any:
        diary.begin(phase)
        try:
            return function(*given, **options)
        finally:
            diary.note(f"end {phase}")

    return wrapped


def keep(file: str, out: str, moments: Sequence[Moment]) -> Diary:
    """Begin the diary of this process."""
    import safetensors.torch

    library: Any = safetensors.torch
    diary = Diary(file, os.path.abspath(out), moments)
    for (module, name), phase in PHASES.items():
        owner: Any = importlib.import_module(f"vigos_cli.{module}")
        *owners, last = name.split(".")
        for one in owners:
            owner = getattr(owner, one)
        setattr(owner, last, _noted(getattr(owner, last), phase, diary))
    written = library.serialize_file

    def serialize_file(tensors: Any, filename: Any, *rest: Any, **options: Any) -> Any:
        sys.audit("open", os.fspath(filename), "wb", os.O_WRONLY)  # it is written by Rust, without an event
        return written(tensors, filename, *rest, **options)

    library.serialize_file = serialize_file
    sys.addaudithook(diary.hook)
    diary.begin(START)
    return diary


def vigos(
    arguments: Sequence[str], file: str, out: str, moments: Sequence[Moment] = (), rank: str | None = None
) -> None:
    """Code of a process: the command line `vigos <arguments>`; of several processes only `rank` is killed."""
    mine = rank is None or os.environ.get("RANK") == rank
    place = file if "RANK" not in os.environ else f"{file}.{os.environ['RANK']}"
    keep(place, out, moments if mine else ())
    warm.vigos(arguments)


# ---------------------------------------------------------------- reading a diary


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a diary in which one phase was the innermost."""

    phase: str
    occurrence: int
    since: float  # seconds from the begin of this occurrence to the begin of the piece
    seconds: float


def read(file: Path) -> list[tuple[float, str, str]]:
    """The lines of a diary: time, kind (begin, end, change, cut) and the rest."""
    lines = [line.split(" ", 2) for line in file.read_text(encoding="utf-8").splitlines()]
    return [(float(time), kind, rest) for time, kind, rest in lines]


def pieces(file: Path) -> list[Piece]:
    """The whole run as pieces in their order."""
    open_: list[tuple[str, int, float]] = []
    count: Counter[str] = Counter()
    found, before = [], 0.0
    for at, kind, phase in read(file):
        if open_ and kind in ("begin", "end"):
            name, occurrence, begun = open_[-1]
            found.append(Piece(name, occurrence, before - begun, at - before))
        if kind == "begin":
            count[phase] += 1
            open_.append((phase, count[phase], at))
        elif kind == "end":
            open_.pop()
        before = at if kind in ("begin", "end") else before
    return found


def changes(file: Path, phase: str) -> list[int]:
    """The number of changes of files in each occurrence of a phase."""
    found: list[int] = []
    inside = False
    for _, kind, rest in read(file):
        if kind in ("begin", "end") and rest == phase:
            inside = kind == "begin"
            found += [0] if inside else []
        elif kind == "change" and inside:
            found[-1] += 1
    return found


def doing(file: Path) -> str:
    """What the process was doing when it got its signals, or else at its end, in words."""
    open_: list[str] = []
    change = cut = ended = ""
    moments = []
    for _, kind, rest in read(file):
        match kind:
            case "begin":
                open_.append(rest)
                change = cut = ""
            case "end":
                open_.remove(rest)
                change, ended = "", rest
            case "change":
                change, cut = rest, ""
            case "cut":
                cut = rest
            case "signal":
                moments.append(_words(open_, change, cut, ended))
    return ", then ".join(moments) or _words(open_, change, cut, ended)


def _words(open_: Sequence[str], change: str, cut: str, ended: str) -> str:
    inner = [phase for phase in open_ if phase != START]
    inner = [phase for place, phase in enumerate(inner) if phase != EVALUATING or not place]
    phase = ": ".join(inner) or (f"after {ended}" if ended else START)
    if cut:
        return f"{phase}, in the middle of writing {_plain(cut.partition(' to ')[0])}"
    if change and (not inner or "saving" in phase or "writing" in phase):
        verb, _, path = change.partition(" ")
        return f"{phase}, before {CHANGES[verb]} {_plain(path.removeprefix('to '))}"
    return phase


CHANGES = {
    "open": "writing",
    "append": "adding to",
    "rename": "renaming",
    "remove": "deleting",
    "rmdir": "deleting",
    "mkdir": "making",
}


def _plain(path: str) -> str:
    """A path without numbers of processes."""
    return re.sub(r"\.draft-\d+", ".draft", path)
