"""Small commands for the trials, and how their folders are compared."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import warm

from campaign.trial import Space

PRIOR = ["bench.tasks.priorworld.rows=1", "bench.samples=1"]
TRAIN = ["trainer.steps=4", "trainer.batch=4", "trainer.checkpoint_every=1", *PRIOR]
COMMANDS = {
    "distill": ["distill", *TRAIN],
    "eval": ["eval", *PRIOR],
    "rollout": ["rollout", "limit=4"],
    "ablate": ["ablate", "seed=1,2", "workers=1", *TRAIN, "trainer.steps=2"],
    "merge": ["merge"],
    "rows": ["distill", *TRAIN[:3], "data=jsonl", "bench=priorworld", *PRIOR],
}
VOLATILE = re.compile(
    r"seconds|tokens_per_second|peak|evaluation_share|time|out|versions|commit|resume|url$|tracking"
)
LEFT_OUT = re.compile(
    r".*\.(log|lock|html|png|svg|yaml|csv)|config\.json|changes\.jsonl|\..*|(data|wandb-run)\.json|wandb"
)
ARRIVING = ("responses.jsonl", "judge.jsonl")  # their lines are in the order in which a server answers
LIMIT = 300.0  # seconds after which a command counts as hanging; on an idle machine the longest takes ten
locks: dict[str, threading.Lock] = {}
locks_lock = threading.Lock()


def command(name: str, out: Path, *more: str) -> list[str]:
    """The arguments of a small command."""
    return [*COMMANDS[name], f"out={out}", *more]


def lock_of(name: str) -> threading.Lock:
    """The lock of something that several trials share."""
    with locks_lock:
        return locks.setdefault(name, threading.Lock())


def whole(space: Space, name: str, *more: str) -> Path:
    """The folder of the command without a fault; made once for all trials of the group."""
    made = space.shared / (name + "".join(re.sub(r"\W", "-", one.split("/")[-1]) for one in more))
    with lock_of(str(made)):
        if not (made / "complete").exists():
            shutil.rmtree(made, ignore_errors=True)
            arguments = command(name, made / "run", *more)
            if name == "merge":
                arguments.append(f"adapter.path={adapter(space)}")
            warm.run(warm.vigos, arguments, check=True, timeout=LIMIT)
            (made / "complete").touch()
    return made / "run"


def adapter(space: Space) -> Path:
    """A trained adapter."""
    return whole(space, "distill") / "adapter"


def steady(value: Any) -> Any:
    """A value of JSON without times, and without what names the folder."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if not VOLATILE.match(k)}
    return [steady(v) for v in value] if isinstance(value, list) else value


def content(file: Path, out: Path) -> Any:
    """What must be the same in two runs."""
    if file.suffix == ".json":
        return steady(json.loads(file.read_text()))
    if file.suffix == ".jsonl":
        lines = [steady(json.loads(line)) for line in file.read_text().splitlines()]
        return sorted(lines, key=json.dumps) if file.name in ARRIVING else lines
    text = file.read_bytes().replace(str(out).encode(), b"OUT")  # such as the card of an adapter
    return re.sub(rb'"resume": "\w+"|"out": "[^"]*"|"url": "http://127[^"]*"', b"", text)


def files(out: Path) -> Iterator[Path]:
    """The files of a run that are the same in every run with the same configuration."""
    for file in sorted(out.rglob("*")):
        inside = file.relative_to(out)
        if file.is_file() and not any(LEFT_OUT.fullmatch(part) for part in inside.parts):
            yield inside


def difference(out: Path, expected: Path, apart: str = "") -> str:
    """The first file that is not the same, except for one; empty if all are."""
    ours, theirs = (set(files(place)) - {Path(apart)} for place in (out, expected))
    if ours != theirs:
        return f"{sorted(map(str, ours ^ theirs))[0]} is in one of both folders only"
    for file in sorted(ours):
        if content(out / file, out) != content(expected / file, expected):
            return f"{file} is not the same"
    return ""


def short(text: str, *places: Path) -> str:
    """A text for the table: temporary folders are replaced by OUT."""
    for place in sorted(places, key=lambda one: -len(str(one))):
        text = text.replace(str(place), "OUT")
    return re.sub(r"\.draft-\d+(/\.tmp\w+)?", ".draft", text)  # numbers of processes


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr that say why a command ended: those of `vigos:`."""
    return [line for line in done.stderr.splitlines() if line.startswith("vigos: ")]


def complaint(done: subprocess.CompletedProcess[str], *, lines: int = 1) -> str:
    """What is wrong with the end of a command that met a fault; empty if it ended with one line."""
    everything = done.stdout + done.stderr
    if "Traceback" in everything:
        return "a traceback: " + everything.strip().splitlines()[-1]
    if "Exception ignored" in everything or "Logging error" in everything:
        return "an exception at the end: " + everything.strip().splitlines()[-1]
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode}"
    if done.returncode == 0:
        return "exit code 0"
    said = lines_of(done)
    if not said or len(said) > lines:
        return f"{len(said)} lines on stderr: {' / '.join(said or done.stderr.splitlines()[-2:])}"
    return ""


def tiny() -> Path:
    """The folder of the model that ships with the package."""
    from vigos_cli.config.paths import TINY

    return TINY
