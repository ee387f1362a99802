"""The tables of a sweep: report.md, CSV files, and the table in the terminal."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from vigos_cli.ablation.arms import ANSWERS, Arm, SweepResults, override_text
from vigos_cli.ablation.compare_arms import ArmRow, compared, measures, verdict_on
from vigos_cli.ablation.palr_results import ROLLOUTS, SHOWN_GROUPS, PalrRow
from vigos_cli.ablation.report_text import (
    ANSWER_NAMES,
    answer_kinds,
    difference_cell,
    mean_text,
    measure_meaning,
    measure_name,
    measures_of,
    nats,
    palr_text,
    run_seconds,
    runs_text,
)
from vigos_cli.reporting.csv_rows import csv_row
from vigos_cli.reporting.markdown import as_code, literal, markdown_table
from vigos_cli.reporting.terminal_tables import print_wide


def report_markdown(context: Mapping[str, Any]) -> str:
    """report.md: the report without the examples of rollouts."""
    rows: list[ArmRow] = context["rows"]
    base: Arm = context["base"]
    cells = context["results"].cells
    lines = [f"# {literal(context['title'])}", "", f"{context['done']} of {len(cells)} cells are done."]
    lines += [f"Differences are from {as_code(base.label)}.", ""]
    lines += [f"- {literal(line)}" for line in context["main_results"]] + [""]
    if context["warnings"]:
        lines += [f"- note: {literal(line)}" for line in context["warnings"]] + [""]
    lines += (
        ["## Varied", ""]
        + [f"- {as_code(key)}: {literal(values)}" for key, values in context["varied"].items()]
        + [""]
    )
    for kind in answer_kinds(rows):
        lines += [f"## {ANSWER_NAMES[kind]}", "", *_answer_table(rows, base, kind)]
    lines += [f"{measure_name(m)}: {measure_meaning(m)}." for m in context["shown"]]
    lines += ["", "Shares with 95 % intervals; p after Holm's correction over the arms of a column.", ""]
    plots = [*context["plots"], *([context["palr_plot"]] if context["palr"] else [])]
    for plot in plots:
        lines += [f"## {plot.title}", "", f"![{plot.title}](plots/{plot.name}.png)", "", plot.text, ""]
    if context["palr"]:
        lines += palr_table(context["palr"].rows)
        lines += [f"- {literal(note)}" for note in context["palr"].notes] + [""]
    if failed := [cell for cell in cells if cell.state == "failed"]:
        lines += ["## Failed", ""]
        lines += [f"- {as_code(cell.name)}: {literal(_last_line(cell.error))}" for cell in failed] + [""]
    lines += ["## What this report does not show", "", *(f"- {line}" for line in context["limitations"])]
    return "\n".join(lines) + "\n"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _answer_table(rows: Sequence[ArmRow], base: Arm, kind: str) -> list[str]:
    """Means and differences of every arm on one kind of answers, as Markdown."""
    own = measures_of(rows, kind)
    heads = [
        "arm",
        "runs",
        *map(measure_name, own),
        *(f"{measure_name(m)}, difference" for m in compared(own)),
    ]
    cells = [
        [
            row.arm.title,
            runs_text(row.arm),
            *(mean_text(row.means[kind][m]) for m in own),
            *(difference_cell(row, base, kind, m) for m in compared(own)),
        ]
        for row in rows
    ]
    return [markdown_table(heads, cells), ""]


def palr_table(rows: Sequence[PalrRow]) -> list[str]:
    """PALR with its pull in nats per token, as Markdown."""
    heads = ["rollouts", "arm", *(f"{name}: PALR, pull, n" for name in SHOWN_GROUPS)]
    cells = []
    for row in rows:
        values = [
            f"{palr_text(found)}, {nats(row.pull[name])}, {found.n}"
            if (found := row.palr[name])
            else "no teacher"
            for name in SHOWN_GROUPS
        ]
        cells.append([ROLLOUTS[row.rollouts], row.arm.label, *values])
    return [markdown_table(heads, cells), ""]


def write_cells(path: Path, results: SweepResults) -> None:
    """cells.csv: one row per cell, whatever its state."""
    runs = {run.folder: run for arm in results.arms if arm.trained for run in arm.runs}
    keys = [key for key in results.varied if key != "seed"]
    columns = [(kind, measure) for kind in ANSWERS for measure in measures(results.arms)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = ["cell", "arm", "seed", "state", *keys, "steps", "seconds", "valid_rate", "fallback_rate"]
        writer.writerow(csv_row([*heads, *(f"{kind}_{measure}" for kind, measure in columns)]))
        for cell in results.cells:
            run = runs.get(cell.folder)
            line: list[Any] = [cell.folder, cell.arm, cell.seed, cell.state]
            line += [override_text(cell.values.get(key)) for key in keys]
            if run:
                summary = run.summary
                line += [summary["steps"], round(run_seconds(summary), 1)]
                line += [summary.get("valid_rate"), summary.get("fallback_rate")]
                line += [_share(run.kinds[kind].get(measure, {})) for kind, measure in columns]
            writer.writerow(csv_row(line))


def _share(items: Mapping[str, tuple[Any, list[float]]]) -> float | str:
    values = [value for _, several in items.values() for value in several]
    return round(sum(values) / len(values), 6) if values else ""


def write_arms(path: Path, rows: Sequence[ArmRow]) -> None:
    """arms.csv: one row for every arm, kind of answer and measure."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = ["arm", "answers", "measure", "runs", "mean", "low", "high", "n"]
        writer.writerow([*heads, "difference", "difference_low", "difference_high", "p", "p_holm", "says"])
        for row in rows:
            for kind in ANSWERS:
                for measure, e in row.means[kind].items():
                    if e is None:
                        continue
                    line: list[Any] = [row.arm.label, kind, measure, len(row.arm.runs)]
                    line += [e.mean, e.low, e.high, e.n]
                    if d := row.differences[kind].get(measure):
                        line += [d.mean, d.low, d.high, d.p, d.p_holm, verdict_on(d)]
                    writer.writerow(csv_row(line))


def write_palr(path: Path, rows: Sequence[PalrRow]) -> None:
    """palr.csv: one row for every arm, kind of rollouts and group of tokens; visual dependency likewise."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "rollouts", "runs", "measure", "tokens", "mean", "low", "high", "n", "pull"])
        for row in rows:
            for measure, values in (("palr", row.palr), ("visual_dependency", row.visual)):
                for tokens, e in values.items():
                    if e is not None:
                        line = [row.arm.label, row.rollouts, row.runs, measure, tokens]
                        pull = row.pull[tokens] if measure == "palr" else ""
                        writer.writerow(csv_row([*line, e.mean, e.low, e.high, e.n, pull]))


def print_arms(sweep: Path, rows: Sequence[ArmRow], base: Arm) -> None:
    """Print the means of every arm, and the difference of its first measure from the reference."""
    shown = [measure for measure in measures([row.arm for row in rows]) if measure != "valid"]
    first = shown[0]
    table = Table(title=f"{sweep}: means over runs with 95 % intervals", title_justify="left")
    heads = [
        "arm",
        "answers",
        "runs",
        *map(measure_name, shown),
        f"{measure_name(first)} against {base.label}",
    ]
    for head in heads:
        table.add_column(head)
    for kind in answer_kinds(rows):
        for row in rows:
            if any(row.means[kind].values()):
                cells = [mean_text(row.means[kind][m]) for m in shown]
                cells.append(difference_cell(row, base, kind, first))
                table.add_row(row.arm.title, kind, runs_text(row.arm), *cells)
        table.add_section()
    print_wide(table, least=160)
