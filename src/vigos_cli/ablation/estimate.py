"""How long the cells that are left will take, from those that are done.

estimate(cells, sweep).lines()  ->  ["done       routing=vigos,seed=1   3.1 min", ...]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigos_cli.ablation.cells import SUMMARY, Cell, State, folder, state
from vigos_cli.config import DistillRun
from vigos_cli.routing import trains

PHASES = ("rollout", "teachers", "learn", "checkpoint")  # that grow with the rollouts of a run
ONCE = ("load", "evaluate")


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds of a cell whatever it learns, and of each rollout that it learns from."""

    once: float
    rollout: float
    source: str


# `vigos distill` as it stands: 29 s of loading and evaluation, 104 s for 50 steps of 32 rollouts.
TINY = Rate(once=29.0, rollout=0.065, source="measured once on two idle cores at the defaults")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Every cell with its state and its seconds: spent where it is done, expected elsewhere."""

    cells: list[tuple[Cell, State, float | None]]
    source: str

    @property
    def left(self) -> float | None:
        """Seconds of all that is not done, one after another; None where nothing is known."""
        ahead = [seconds for _, found, seconds in self.cells if found != "done"]
        return None if any(seconds is None for seconds in ahead) else sum(s for s in ahead if s is not None)

    def lines(self) -> list[str]:
        """For the terminal."""
        width = max(len(cell.name) for cell, _, _ in self.cells)
        lines = [f"{found:<10} {cell.name:<{width}}  {_minutes(s)}" for cell, found, s in self.cells]
        return [*lines, self.total()]

    def total(self) -> str:
        """In one line."""
        left = sum(found != "done" for _, found, _ in self.cells)
        text = f"{len(self.cells)} cells, {left} of them to run"
        if left:
            text += f": {_minutes(self.left)} one after another ({self.source})"
        return text


def estimate(cells: Sequence[Cell], sweep: Path) -> Estimate:
    """From the cells that are done here; else, for the embedded model, from a rate once measured."""
    done: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if (path := folder(sweep, cell) / SUMMARY).exists():
            done[cell.key] = json.loads(path.read_text())
    rate = measured(list(done.values()))
    if rate is None and all(cell.config.model.path == "builtin:tiny" for cell in cells):
        rate = TINY
    lines = []
    for cell in cells:
        if cell.key in done:
            lines.append((cell, "done", sum(done[cell.key]["seconds"].get(p, 0) for p in (*PHASES, *ONCE))))
        else:
            expected = rate and _expected(cell.config, done.values(), rate)
            lines.append((cell, state(folder(sweep, cell)), expected))
    return Estimate(lines, rate.source if rate else "unknown until a cell of this model is done")


def measured(summaries: Sequence[dict[str, Any]]) -> Rate | None:
    """The mean rate of finished cells."""
    once, each = [], []
    for summary in summaries:
        seconds = summary["seconds"]
        once.append(sum(seconds.get(phase, 0) for phase in ONCE))
        if rollouts := summary["steps"] * summary["config"]["trainer"]["batch"]:
            each.append(sum(seconds.get(phase, 0) for phase in PHASES) / rollouts)
    if not each:
        return None
    source = f"from the {len(summaries)} done here"
    return Rate(sum(once) / len(once), sum(each) / len(each), source)


def _expected(config: DistillRun, done: Iterable[dict[str, Any]], rate: Rate) -> float:
    """Seconds of a cell; one that makes a pass over its data takes as many steps as those that are done."""
    steps = config.trainer.steps or max((summary["steps"] for summary in done), default=0)
    return rate.once + rate.rollout * config.trainer.batch * steps * trains(config.routing)


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
