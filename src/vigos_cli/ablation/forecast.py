"""How long the remaining cells of a sweep will take, estimated from the cells that are done.

forecast(cells, sweep).lines()  ->  ["done       routing=vigos,seed=1  3.1 min, and PALR 1.2 min", ...]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigos_cli.ablation.cells import SUMMARY, Cell, State, cell_folder, cell_state
from vigos_cli.ablation.palr_runs import LOOKED, LOOKING, needs_palr
from vigos_cli.config.schema import DistillRun
from vigos_cli.config.supervision_terms import trains

PER_ROLLOUT = ("rollout", "teachers", "learn", "checkpoint")  # phases whose time grows with the rollouts
PER_CELL = ("load", "evaluate")  # phases whose time does not depend on the rollouts


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds that every cell takes besides its rollouts, and seconds per rollout that it trains on."""

    cell: float
    rollout: float
    source: str


# Seven trained cells of `main seed=1` at the defaults, two at a time with one thread each, took 41 to 59 s
# each, 340 s together, and `two_pass` 6 s: of 49 s in the mean, 5 s are loading and evaluation.
TINY = Rate(cell=5.0, rollout=0.027, source="measured once on two cores at the defaults")
TINY_ROW = 0.3  # seconds of PALR per row, for the base's and the adapter's rollouts; measured likewise


@dataclass(frozen=True, slots=True)
class CellForecast:
    """One cell, its state and its time.

    `seconds` is the time spent if the cell is done, otherwise the expected time; None if it is unknown.
    """

    cell: Cell
    state: State
    seconds: float | None
    palr: float | None = 0.0  # seconds that measuring PALR will take; 0 if it is not asked for or is done
    elsewhere: Path | None = None  # the folder of another sweep in which the cell is done

    @property
    def remaining(self) -> float | None:
        """The remaining seconds of this cell; None if they are unknown."""
        parts = [0.0 if self.state == "done" else self.seconds, self.palr]
        return None if None in parts else sum(part or 0 for part in parts)

    def line(self, width: int) -> str:
        """One line for the terminal; the name is padded to `width`."""
        text = f"{self.state:<10} {self.cell.name:<{width}}  {_minutes(self.seconds)}"
        if self.palr != 0:
            text += f", and PALR {_minutes(self.palr)}"
        return text + (f", in {self.elsewhere}" if self.elsewhere else "")


@dataclass(frozen=True, slots=True)
class SweepForecast:
    """The forecast of every cell, and what it is based on."""

    cells: list[CellForecast]
    source: str
    at_once: int = 1  # how many cells run at the same time

    @property
    def remaining(self) -> float | None:
        """The remaining seconds of the sweep; None if they are unknown. The longest cell is the least."""
        parts = [one.remaining for one in self.cells]
        if None in parts:
            return None
        seconds = [part or 0.0 for part in parts]
        return max(sum(seconds) / self.at_once, max(seconds, default=0.0))

    def lines(self) -> list[str]:
        """For the terminal: a line per cell, then the total."""
        width = max(len(one.cell.name) for one in self.cells)
        return [*(one.line(width) for one in self.cells), self.total()]

    def total(self) -> str:
        """The number of cells and the remaining time in one line."""
        to_run = sum(one.state != "done" for one in self.cells)
        to_measure = sum(one.palr != 0 for one in self.cells)
        text = f"{len(self.cells)} cells, {to_run} of them to run"
        if copied := sum(one.elsewhere is not None for one in self.cells):
            text += f", {copied} copied from another sweep"
        if to_measure:
            text += f", PALR of {to_measure} to measure"
        if to_run or to_measure:
            how = f"{self.at_once} at a time" if self.at_once > 1 else "one after another"
            text += f": {_minutes(self.remaining)} {how} ({self.source})"
        return text


def forecast(
    cells: Sequence[Cell], sweep: Path, elsewhere: Mapping[str, Path] | None = None, *, at_once: int = 1
) -> SweepForecast:
    """Estimate the time from the cells that are done.

    `elsewhere` maps the key of a cell to its folder in another sweep in which it is done. `at_once` cells run
    at the same time. As long as no cell is done, the embedded model has a rate that was measured once; other
    models have none.
    """
    places = {cell.key: (elsewhere or {}).get(cell.key) or cell_folder(sweep, cell) for cell in cells}
    states: dict[str, State] = {key: cell_state(place) for key, place in places.items()}
    done = {key: json.loads((places[key] / SUMMARY).read_text()) for key in places if states[key] == "done"}
    tiny = all(cell.config.model.path == "builtin:tiny" for cell in cells)
    rate = measured_rate(list(done.values())) or (TINY if tiny else None)
    row = palr_seconds_per_row(places.values()) or (TINY_ROW if tiny else None)
    forecasts = []
    for cell in cells:
        place = places[cell.key]
        if cell.key in done:
            seconds = sum(done[cell.key]["seconds"].get(phase, 0) for phase in (*PER_ROLLOUT, *PER_CELL))
        else:
            seconds = rate and _expected(cell.config, done.values(), rate)
        rows = cell.config.palr_rows
        palr = (row and row * rows) if needs_palr(cell.config.routing, rows, place) else 0.0
        forecasts.append(CellForecast(cell, states[cell.key], seconds, palr, (elsewhere or {}).get(cell.key)))
    source = rate.source if rate else "unknown until a cell of this model is done"
    return SweepForecast(forecasts, source, at_once)


def palr_seconds_per_row(folders: Iterable[Path]) -> float | None:
    """Seconds of PALR per row, from the cells in which it was measured."""
    found = [json.loads(p.read_text()) for folder in folders if (p := folder / LOOKING / LOOKED).exists()]
    rows = sum(one["rows"] for one in found)
    return sum(one["seconds"] for one in found) / rows if rows else None


def measured_rate(summaries: Sequence[dict[str, Any]]) -> Rate | None:
    """The mean rate of finished cells; None if none of them trained."""
    per_cell, per_rollout = [], []
    for summary in summaries:
        seconds = summary["seconds"]
        per_cell.append(sum(seconds.get(phase, 0) for phase in PER_CELL))
        if rollouts := summary["steps"] * summary["config"]["trainer"]["batch"]:
            per_rollout.append(sum(seconds.get(phase, 0) for phase in PER_ROLLOUT) / rollouts)
    if not per_rollout:
        return None
    source = f"estimated from the {len(summaries)} finished"
    return Rate(sum(per_cell) / len(per_cell), sum(per_rollout) / len(per_rollout), source)


def _expected(config: DistillRun, done: Iterable[dict[str, Any]], rate: Rate) -> float:
    """Seconds of a cell; without trainer.steps, the largest number of steps of a finished cell is assumed."""
    steps = config.trainer.steps or max((summary["steps"] for summary in done), default=0)
    return rate.cell + rate.rollout * config.trainer.batch * steps * trains(config.routing)


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
