"""PALR and visual dependency of a sweep's arms, read from what ablation/look.py has left in their cells.

found = read(sweep, table)            # None where nothing was measured
found.rows[0].palr["reasoning"]       # Estimate: the mean over seeds, of one arm on one kind of rollouts
found.rows[0].pull["reasoning"]       # nats a token: a PALR without its pull says little
found.notes                           # which arms have none, and why

Intervals: a bootstrap over seeds and rows of the data at once, over rows alone under three seeds. The
untrained student's rollouts are the same for all seeds of an arm and count once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vigos_cli.ablation.arms import Arm, Table
from vigos_cli.ablation.cells import SUMMARY
from vigos_cli.ablation.look import BASE, ERROR, LOOKED, LOOKING, OWN, left_out
from vigos_cli.analysis.palr import mean_per_token, palr_sums, share_by_answer, visual_sums
from vigos_cli.utils.files import read_lines
from vigos_cli.utils.stats import Estimate, crossed_statistic

SHOWN = ("description", "reasoning", "answer", "reasoning+answer", "turn")  # groups of tokens
LOOKS_AT = ("description", "reasoning", "answer", "delimiters")  # kinds, for visual dependency
ROLLOUTS = {BASE: "rollouts of the untrained student", OWN: "each arm's own rollouts"}
PAGE = "rollouts.html"


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm on one kind of rollouts. None: no token of the group has a teacher."""

    arm: Arm
    rollouts: str  # a key of ROLLOUTS
    runs: int
    palr: dict[str, Estimate | None]
    pull: dict[str, float | None]
    visual: dict[str, Estimate | None]


@dataclass(frozen=True, slots=True)
class Page:
    """Where a cell's rollouts can be looked at, token by token, as links from the sweep's folder."""

    arm: str
    seed: int | None
    links: dict[str, str]


@dataclass(frozen=True, slots=True)
class Palr:
    """All that was measured in a sweep."""

    rows: list[Measured]
    pages: list[Page]
    notes: list[str]


def read(sweep: Path, table: Table) -> Palr | None:
    """Of every cell that was measured."""
    arms = [arm for arm in table.arms if arm.trained]
    rows: list[Measured] = []
    pages: list[Page] = []
    for arm in arms:
        for rollouts in ROLLOUTS:
            places = [path for run in arm.runs if (path := _folder(sweep, run.folder, rollouts))]
            if places:
                several = [read_lines(path / "rollouts.jsonl") for path in places]
                rows.append(_measured(arm, rollouts, several[:1] if rollouts == BASE else several))
        for run in arm.runs:
            links = {
                rollouts: f"{quote(run.folder)}/{LOOKING}/{rollouts}/{PAGE}#colour=palr"
                for rollouts in ROLLOUTS
                if _folder(sweep, run.folder, rollouts)
            }
            if links:
                pages.append(Page(arm.label, run.seed, links))
    if not rows:
        return None
    rows.sort(key=lambda row: list(ROLLOUTS).index(row.rollouts))
    return Palr(rows, pages, _notes(sweep, arms))


def _folder(sweep: Path, cell: str, rollouts: str) -> Path | None:
    path = sweep / cell / LOOKING / rollouts
    return path if (path / SUMMARY).exists() else None


def _measured(arm: Arm, rollouts: str, runs: Sequence[Sequence[dict[str, Any]]]) -> Measured:
    sums = {group: [palr_sums(lines, group) for lines in runs] for group in SHOWN}
    pulls = {group: crossed_statistic(several, mean_per_token) for group, several in sums.items()}
    return Measured(
        arm,
        rollouts,
        len(runs),
        {group: crossed_statistic(several, share_by_answer) for group, several in sums.items()},
        {group: found and found.mean for group, found in pulls.items()},
        {
            kind: crossed_statistic([visual_sums(lines, kind) for lines in runs], mean_per_token)
            for kind in LOOKS_AT
        },
    )


def _notes(sweep: Path, arms: Sequence[Arm]) -> list[str]:
    """What a reader must know of the arms before the figures."""
    notes, rows = [], set()
    for arm in arms:
        config = arm.runs[0].summary["config"]
        looked = [path for run in arm.runs if (path := sweep / run.folder / LOOKING / LOOKED).exists()]
        rows |= {json.loads(path.read_text())["rows"] for path in looked}
        if reason := left_out(config["routing"]):
            notes.append(f"{arm.label} has no PALR: {reason}")
            continue
        if len(looked) < len(arm.runs):
            notes.append(f"{arm.label}: measured in {len(looked)} of {len(arm.runs)} runs")
        for run in arm.runs:
            if (path := sweep / run.folder / LOOKING / ERROR).exists():
                last = path.read_text(encoding="utf-8").strip().splitlines()[-1]
                notes.append(f"{arm.label}, seed {run.seed}: failed ({last})")
        if config["routing"]["student"] == "plain":
            notes.append(
                f"{arm.label} learned under a plain prompt, which has no description; here it is asked, and "
                "its teacher told, in the structured form"
            )
        if config["teacher"]["weights"] != "base":
            notes.append(f"{arm.label}: the teachers here are the initial weights, not those it learned from")
    if len(rows) > 1:
        notes.append(f"runs were measured on different numbers of rows: {', '.join(map(str, sorted(rows)))}")
    return notes
