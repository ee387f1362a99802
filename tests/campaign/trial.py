"""One trial of the campaign: a fault that is made on purpose, and what came back.

    Trial("kill distill 3", "kills of distill", run)     # run(space) makes the fault and returns an Outcome

A trial decides by itself whether the result is right. An exception of a trial counts as a fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Space:
    """What a trial may use: an empty folder, its own random numbers, and a folder that its group shares."""

    folder: Path
    rng: random.Random
    shared: Path  # for example for the run without a kill, which all kills of a group are compared with


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one trial, in words for the table of docs/reliability.md."""

    right: bool
    moment: str  # what the program was doing, or the kind of row or text
    did: str  # what was done to it
    came_back: str  # "the same bytes", or the one line that the program printed
    cases: int = 1  # rows or texts that this trial stands for


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault to make. `name` is unique; `group` is the heading of the table that its result stands in."""

    name: str
    group: str
    run: Callable[[Space], Outcome]


def key(seed: int, name: str) -> random.Random:
    """The random numbers of a trial: they depend on nothing but the campaign's seed and the trial's name."""
    return random.Random(f"{seed} {name}")
