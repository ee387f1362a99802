"""The report as tables: report.md, cells.csv (a row a cell), arms.csv and palr.csv (a row a measure)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as Grid

from vigos_cli.ablation.arms import KINDS, Arm, Table, text
from vigos_cli.ablation.compare import Row, measures, says, tested
from vigos_cli.ablation.palr import ROLLOUTS, Measured
from vigos_cli.ablation.palr import SHOWN as SEGMENTS
from vigos_cli.ablation.words import (
    KIND_NAMES,
    difference_text,
    held,
    kinds,
    mean_text,
    meaning,
    named,
    nats,
    palr_text,
    phases,
)
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.reporting.terminal_tables import print_wide


def markdown(context: Mapping[str, Any]) -> str:
    """The report without pictures of rollouts."""
    rows: list[Row] = context["rows"]
    base: Arm = context["base"]
    shown: Sequence[str] = context["shown"]
    lines = [f"# {context['title']}", ""]
    lines += [
        f"{context['done']} of {len(context['table'].cells)} cells are done.",
        f"Differences are from `{base.label}`.",
        "",
    ]
    lines += [f"- {line}" for line in context["in_short"]] + [""]
    if context["warnings"]:
        lines += [f"- note: {line}" for line in context["warnings"]] + [""]
    lines += ["## Varied", ""] + [f"- `{key}`: {values}" for key, values in context["varied"].items()] + [""]
    for kind in kinds(rows):
        lines += [f"## {KIND_NAMES[kind]}", ""]
        own = held(rows, kind)
        heads = ["arm", "seeds", *map(named, own), *(f"{named(m)}, difference" for m in tested(own))]
        cells = [
            [row.arm.label, _seeds(row.arm), *(mean_text(row.means[kind][m]) for m in own)]
            + [_difference_cell(row, base, kind, m) for m in tested(own)]
            for row in rows
        ]
        lines += [markdown_table(heads, cells), ""]
    lines += [f"{named(m)}: {meaning(m)}." for m in shown]
    lines += ["", "Shares with 95 % intervals; p after Holm's correction over the arms of a column.", ""]
    for plot in context["plots"]:
        lines += [f"## {plot.title}", "", f"![{plot.title}](plots/{plot.name}.png)", "", plot.text, ""]
    if context["palr"]:
        plot = context["palr_plot"]
        lines += [f"## {plot.title}", "", f"![{plot.title}](plots/{plot.name}.png)", "", plot.text, ""]
        lines += [palr_table(context["palr"].rows), ""]
        lines += [f"- {note}" for note in context["palr"].notes] + [""]
    if failed := [cell for cell in context["table"].cells if cell.state == "failed"]:
        lines += ["## Failed", ""]
        lines += [f"- `{cell.name}`: {cell.error.strip().splitlines()[-1]}" for cell in failed] + [""]
    lines += ["## What this does not show", "", *(f"- {line}" for line in context["limits"])]
    return "\n".join(lines) + "\n"


def palr_table(rows: Sequence[Measured]) -> str:
    """PALR with its pull in nats a token, as Markdown."""
    heads = ["rollouts", "arm", *(f"{name}: PALR, pull, n" for name in SEGMENTS)]
    lines = []
    for row in rows:
        cells = [
            f"{palr_text(found)}, {nats(row.pull[name])}, {found.n}"
            if (found := row.palr[name])
            else "no teacher"
            for name in SEGMENTS
        ]
        lines.append([ROLLOUTS[row.rollouts], row.arm.label, *cells])
    return markdown_table(heads, lines)


def _seeds(arm: Arm) -> str:
    return str(len(arm.runs)) if arm.trained else "-"


def _difference_cell(row: Row, base: Arm, kind: str, measure: str) -> str:
    if row.arm is base:
        return "reference"
    found = row.differences[kind].get(measure)
    return difference_text(found) + (f", {says(found)}" if found else "")


def write_cells(path: Path, table: Table) -> None:
    """A row a cell, whatever its state."""
    runs = {run.folder: (arm, run) for arm in table.arms if arm.trained for run in arm.runs}
    keys = [key for key in table.varied if key != "seed"]
    columns = [(kind, measure) for kind in KINDS for measure in measures(table.arms)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = ["cell", "arm", "seed", "state", *keys, "steps", "seconds", "valid_rate", "fallback_rate"]
        writer.writerow([*heads, *(f"{kind}_{measure}" for kind, measure in columns)])
        for cell in table.cells:
            arm, run = runs.get(cell.folder, (None, None))
            line: list[Any] = [cell.folder, cell.arm, cell.seed, cell.state]
            line += [text(arm.settings[key]) if arm else "" for key in keys]
            if run:
                summary = run.summary
                line += [summary["steps"], round(sum(phases(summary)), 1)]
                line += [summary.get("valid_rate"), summary.get("fallback_rate")]
                line += [_share(run.kinds[kind].get(measure, {})) for kind, measure in columns]
            writer.writerow(line)


def _share(items: Mapping[str, tuple[Any, list[float]]]) -> float | str:
    values = [value for _, several in items.values() for value in several]
    return round(sum(values) / len(values), 6) if values else ""


def write_arms(path: Path, rows: Sequence[Row]) -> None:
    """A row for every arm, kind of answer and measure."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = ["arm", "answers", "measure", "seeds", "mean", "low", "high", "n"]
        writer.writerow([*heads, "difference", "difference_low", "difference_high", "p", "p_holm", "says"])
        for row in rows:
            for kind in KINDS:
                for measure, e in row.means[kind].items():
                    if e is None:
                        continue
                    line: list[Any] = [
                        row.arm.label,
                        kind,
                        measure,
                        _seeds(row.arm),
                        e.mean,
                        e.low,
                        e.high,
                        e.n,
                    ]
                    if d := row.differences[kind].get(measure):
                        line += [d.mean, d.low, d.high, d.p, d.p_holm, says(d)]
                    writer.writerow(line)


def write_palr(path: Path, rows: Sequence[Measured]) -> None:
    """A row for every arm, kind of rollouts and group of tokens, with visual dependency where it has one."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "rollouts", "runs", "measure", "tokens", "mean", "low", "high", "n", "pull"])
        for row in rows:
            for measure, figures in (("palr", row.palr), ("visual_dependency", row.visual)):
                for tokens, e in figures.items():
                    if e is not None:
                        line = [row.arm.label, row.rollouts, row.runs, measure, tokens]
                        pull = row.pull[tokens] if measure == "palr" else ""
                        writer.writerow([*line, e.mean, e.low, e.high, e.n, pull])


def print_table(sweep: Path, rows: Sequence[Row], base: Arm) -> None:
    """The means of every arm, and its Score against the reference."""
    shown = [measure for measure in measures([row.arm for row in rows]) if measure != "valid"]
    first = shown[0]
    grid = Grid(title=f"{sweep}: means over seeds with 95 % intervals", title_justify="left")
    for head in ("arm", "answers", "seeds", *map(named, shown), f"{named(first)} against {base.label}"):
        grid.add_column(head)
    for kind in kinds(rows):
        for row in rows:
            if any(row.means[kind].values()):
                cells = [mean_text(row.means[kind][m]) for m in shown]
                cells.append(_difference_cell(row, base, kind, first))
                grid.add_row(row.arm.label, kind, _seeds(row.arm), *cells)
        grid.add_section()
    print_wide(grid, least=160)
