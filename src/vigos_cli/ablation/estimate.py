"""How long the cells that are left will take, from those that are done.

estimate(cells, sweep).lines()  ->  ["done       routing=vigos,seed=1  3.1 min, and PALR 1.2 min", ...]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vigos_cli.ablation.cells import SUMMARY, Cell, State, folder, state
from vigos_cli.ablation.look import LOOKED, LOOKING, wanted
from vigos_cli.config.schema import DistillRun
from vigos_cli.method.routing import trains

PHASES = ("rollout", "teachers", "learn", "checkpoint")  # that grow with the rollouts of a run
ONCE = ("load", "evaluate")


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds of a cell whatever it learns, and of each rollout that it learns from."""

    once: float
    rollout: float
    source: str


# `vigos distill` as it stands: 29 s of loading and evaluation, 104 s for 50 steps of 32 rollouts.
TINY_ROW = 0.3  # seconds of PALR for a row, of base and own rollouts; measured likewise
TINY = Rate(once=29.0, rollout=0.065, source="measured once on two idle cores at the defaults")


@dataclass(frozen=True, slots=True)
class Forecast:
    """One cell: its state, its seconds (spent where it is done, expected elsewhere; None: unknown)."""

    cell: Cell
    state: State
    seconds: float | None
    looks: float | None = 0.0  # seconds that measuring its PALR will take; 0 where it is not wanted, or done
    elsewhere: Path | None = None  # the folder of another sweep in which it is done

    @property
    def ahead(self) -> float | None:
        """Seconds still to come."""
        parts = [0.0 if self.state == "done" else self.seconds, self.looks]
        return None if None in parts else sum(part or 0 for part in parts)

    def line(self, width: int) -> str:
        """For the terminal."""
        text = f"{self.state:<10} {self.cell.name:<{width}}  {_minutes(self.seconds)}"
        if self.looks != 0:
            text += f", and PALR {_minutes(self.looks)}"
        return text + (f", in {self.elsewhere}" if self.elsewhere else "")


@dataclass(frozen=True, slots=True)
class Estimate:
    """The forecast of every cell, and where it comes from."""

    cells: list[Forecast]
    source: str

    @property
    def left(self) -> float | None:
        """Seconds of all that is not done, one after another; None where nothing is known."""
        ahead = [one.ahead for one in self.cells]
        return None if None in ahead else sum(seconds or 0 for seconds in ahead)

    def lines(self) -> list[str]:
        """For the terminal."""
        width = max(len(one.cell.name) for one in self.cells)
        return [*(one.line(width) for one in self.cells), self.total()]

    def total(self) -> str:
        """In one line."""
        left, looks = (sum(many) for many in zip(*map(_open, self.cells), strict=True))
        text = f"{len(self.cells)} cells, {left} of them to run"
        if copied := sum(one.elsewhere is not None for one in self.cells):
            text += f", {copied} taken over from another sweep"
        if looks:
            text += f", PALR of {looks} to measure"
        if left or looks:
            text += f": {_minutes(self.left)} one after another ({self.source})"
        return text


def estimate(cells: Sequence[Cell], sweep: Path, elsewhere: Mapping[str, Path] | None = None) -> Estimate:
    """From the cells that are done here or `elsewhere`; for the embedded model from a rate once measured."""
    places = {cell.key: (elsewhere or {}).get(cell.key) or folder(sweep, cell) for cell in cells}
    done = {key: json.loads((p / SUMMARY).read_text()) for key, p in places.items() if state(p) == "done"}
    tiny = all(cell.config.model.path == "builtin:tiny" for cell in cells)
    rate = measured(list(done.values())) or (TINY if tiny else None)
    row = looking_rate(places.values()) or (TINY_ROW if tiny else None)
    forecasts = []
    for cell in cells:
        place = places[cell.key]
        if cell.key in done:
            seconds = sum(done[cell.key]["seconds"].get(phase, 0) for phase in (*PHASES, *ONCE))
        else:
            seconds = rate and _expected(cell.config, done.values(), rate)
        rows = cell.config.palr_rows
        looks = (row and row * rows) if wanted(asdict(cell.config), rows, place) else 0.0
        forecasts.append(Forecast(cell, state(place), seconds, looks, (elsewhere or {}).get(cell.key)))
    return Estimate(forecasts, rate.source if rate else "unknown until a cell of this model is done")


def looking_rate(folders: Iterable[Path]) -> float | None:
    """Seconds of PALR for a row, from the cells in which it was measured."""
    found = [json.loads(p.read_text()) for folder in folders if (p := folder / LOOKING / LOOKED).exists()]
    rows = sum(one["rows"] for one in found)
    return sum(one["seconds"] for one in found) / rows if rows else None


def _open(one: Forecast) -> tuple[bool, bool]:
    return one.state != "done", one.looks != 0


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
