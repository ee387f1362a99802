"""PALR and visual dependency of a sweep's arms, read from the folders of their cells.

found = read_palr(sweep, results)     # None if nothing was measured
found.rows[0].palr["reasoning"]       # IntervalEstimate over runs, of one arm and one kind of rollouts
found.rows[0].pull["reasoning"]       # nats per token; if it is near zero, PALR means little
found.notes                           # which arms have no PALR, and why

The intervals are a bootstrap over bases (see `repeat_over`), seeds and rows of the data; fewer than three
bases, or seeds of a base, are not resampled. The rollouts of the untrained student are the same for all seeds
of an arm, and count once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vigos_cli.ablation.arms import Arm, SweepResults
from vigos_cli.ablation.cells import SUMMARY
from vigos_cli.ablation.palr_runs import BASE, ERROR, LOOKED, LOOKING, OWN
from vigos_cli.analysis.palr import mean_per_token, palr_sums, share_by_answer, visual_sums
from vigos_cli.config.compose import restored
from vigos_cli.config.routing_checks import why_no_palr
from vigos_cli.config.schema import DistillRun
from vigos_cli.utils.files import read_lines
from vigos_cli.utils.stats import IntervalEstimate, crossed_statistic

SHOWN_GROUPS = ("description", "reasoning", "answer", "reasoning+answer", "turn")  # groups of tokens
VISUAL_KINDS = ("description", "reasoning", "answer", "delimiters")  # kinds of tokens, for visual dependency
ROLLOUTS = {BASE: "rollouts of the untrained student", OWN: "each arm's own rollouts"}
PAGE = "rollouts.html"


@dataclass(frozen=True, slots=True)
class PalrRow:
    """The values of an arm on one kind of rollouts, by group of tokens; None if no token has a teacher."""

    arm: Arm
    rollouts: str  # a key of ROLLOUTS
    runs: int
    palr: dict[str, IntervalEstimate | None]
    pull: dict[str, float | None]
    visual: dict[str, IntervalEstimate | None]


@dataclass(frozen=True, slots=True)
class RolloutPages:
    """Links from the sweep's folder to the pages that show a cell's rollouts token by token."""

    arm: str
    seed: int | None
    links: dict[str, str]


@dataclass(frozen=True, slots=True)
class SweepPalr:
    """PALR of all arms of a sweep in which it was measured."""

    rows: list[PalrRow]
    pages: list[RolloutPages]
    notes: list[str]


def read_palr(sweep: Path, results: SweepResults) -> SweepPalr | None:
    """Read every cell in which PALR was measured; None if there is none."""
    arms = [arm for arm in results.arms if arm.trained]
    rows: list[PalrRow] = []
    pages: list[RolloutPages] = []
    for arm in arms:
        for rollouts in ROLLOUTS:
            places: dict[str, tuple[str, Path]] = {}
            for run in arm.runs:
                if path := _folder(sweep, run.folder, rollouts):
                    # The untrained student's rollouts are the same for all seeds.
                    places.setdefault(run.base if rollouts == BASE else run.folder, (run.base, path))
            if places:
                rows.append(_palr_row(arm, rollouts, [*places.values()]))
        for run in arm.runs:
            links = {
                rollouts: f"{quote(run.folder)}/{LOOKING}/{rollouts}/{PAGE}#colour=palr"
                for rollouts in ROLLOUTS
                if _folder(sweep, run.folder, rollouts)
            }
            if links:
                pages.append(RolloutPages(arm.label, run.seed, links))
    if not rows:
        return None
    rows.sort(key=lambda row: list(ROLLOUTS).index(row.rollouts))
    return SweepPalr(rows, pages, _notes(sweep, arms))


def _folder(sweep: Path, cell: str, rollouts: str) -> Path | None:
    path = sweep / cell / LOOKING / rollouts
    return path if (path / SUMMARY).exists() else None


def _palr_row(arm: Arm, rollouts: str, places: Sequence[tuple[str, Path]]) -> PalrRow:
    bases, runs = [base for base, _ in places], [read_lines(path / "rollouts.jsonl") for _, path in places]
    sums = {group: [palr_sums(lines, group) for lines in runs] for group in SHOWN_GROUPS}
    pulls = {
        group: crossed_statistic(several, mean_per_token, bases=bases) for group, several in sums.items()
    }
    visual = {kind: [visual_sums(lines, kind) for lines in runs] for kind in VISUAL_KINDS}
    return PalrRow(
        arm,
        rollouts,
        len(runs),
        {group: crossed_statistic(several, share_by_answer, bases=bases) for group, several in sums.items()},
        {group: found and found.mean for group, found in pulls.items()},
        {kind: crossed_statistic(several, mean_per_token, bases=bases) for kind, several in visual.items()},
    )


def _notes(sweep: Path, arms: Sequence[Arm]) -> list[str]:
    """What a reader must know about the arms before reading the numbers."""
    notes, rows = [], set()
    for arm in arms:
        config = arm.runs[0].summary["config"]
        looked = [path for run in arm.runs if (path := sweep / run.folder / LOOKING / LOOKED).exists()]
        rows |= {json.loads(path.read_text())["rows"] for path in looked}
        if reason := why_no_palr(restored(config, DistillRun).routing):
            notes.append(f"arm {arm.label} has no PALR: {reason}")
            continue
        if len(looked) < len(arm.runs):
            notes.append(f"arm {arm.label}: measured in {len(looked)} of {len(arm.runs)} runs")
        for run in arm.runs:
            if (path := sweep / run.folder / LOOKING / ERROR).exists():
                last = path.read_text(encoding="utf-8").strip().splitlines()[-1]
                notes.append(f"arm {arm.label}, seed {run.seed}: failed ({last})")
        if config["routing"]["student"]["format"] == "think":
            notes.append(
                f"arm {arm.label} was trained with a plain prompt, which asks for no description; PALR is "
                "measured with the structured prompt for the student and for its teacher"
            )
        if config["teacher"]["weights"] != "base":
            notes.append(
                f"arm {arm.label}: in PALR the teachers have the initial weights, unlike in its training"
            )
    if len(rows) > 1:
        notes.append(f"runs were measured on different numbers of rows: {', '.join(map(str, sorted(rows)))}")
    return notes
