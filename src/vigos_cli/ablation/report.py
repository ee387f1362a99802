"""The report of a sweep: report.html for a reader who does not know us, report.md, two CSV files, plots/.

write_report(Path("runs/losses"))       # of every cell that is done there; prints the table
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vigos_cli.ablation import paper
from vigos_cli.ablation.arms import Arm, Table, read_sweep, text
from vigos_cli.ablation.compare import compare, find_reference, measures, says, tested
from vigos_cli.ablation.page import render
from vigos_cli.ablation.palr import LOOKS_AT, ROLLOUTS
from vigos_cli.ablation.palr import SHOWN as SEGMENTS
from vigos_cli.ablation.palr import read as read_palr
from vigos_cli.ablation.plots import draw_all, draw_palr
from vigos_cli.ablation.reuse import REUSED
from vigos_cli.ablation.tables import markdown, print_table, write_arms, write_cells, write_palr
from vigos_cli.ablation.words import (
    KIND_NAMES,
    difference_text,
    held,
    in_short,
    kinds,
    limits,
    made,
    mean_text,
    meaning,
    named,
    nats,
    palr_text,
    warnings,
)
from vigos_cli.grading.text_equality import same_text
from vigos_cli.method.segments import runs
from vigos_cli.types import Kind, Response
from vigos_cli.utils.files import drafted

EXAMPLES, COLUMNS = 4, 5  # pictures with their rollouts, and how many rollouts beside each other


def write_report(sweep: Path, reference: str | None = None) -> None:
    """Write what the finished cells show, and print the table."""
    table = read_sweep(sweep)
    done = [cell for cell in table.cells if cell.state == "done"]
    if not done:
        print(f"no cell in {sweep} is done: no report")
        return
    rows = compare(table.arms, reference)
    base = find_reference(table.arms, reference)
    assert base is not None
    shown = measures(table.arms)
    plots = draw_all(table.arms, rows, sweep / "plots")
    palr = read_palr(sweep, table)
    varied = {key: ", ".join(values) for key, values in table.varied.items()}
    options = {key.split(".")[0] for key in varied if key.endswith(".name")}
    implied = {key for key in varied if key.split(".")[0] in options and not key.endswith(".name")}
    context = {
        "title": sweep.resolve().name,
        "table": table,
        "done": len(done),
        "base": base,
        "varied": {key: values for key, values in varied.items() if key not in implied},
        "implied": {key: values for key, values in varied.items() if key in implied},
        "fixed": {key: text(value) for key, value in table.fixed.items()},
        "named": named,
        "kinds": kinds(rows),
        "kind_names": KIND_NAMES,
        "meaning": meaning,
        "shown": shown,
        "tested": tested,
        "held": held,
        "legend": [kind.value for kind in Kind],
        "rows": rows,
        "mean": mean_text,
        "palr_text": palr_text,
        "nats": nats,
        "difference": difference_text,
        "says": says,
        "in_short": in_short(rows, base),
        "warnings": warnings(table),
        "plots": plots,
        "palr": palr,
        "palr_plot": draw_palr(table.arms, palr.rows, sweep / "plots") if palr else None,
        "rollouts": ROLLOUTS,
        "segments": SEGMENTS,
        "looks_at": LOOKS_AT,
        "paper_palr": paper.PALR,
        "paper_palr_columns": paper.PALR_COLUMNS,
        "limits": limits(table),
        "paper_columns": paper.COLUMNS,
        "paper_rows": [(row, found) for row in rows if (found := paper.figures(row.arm))],
        "examples": examples(table, base),
        "made": made(table) | reused(sweep, table),
    }
    write_cells(sweep / "cells.csv", table)
    write_arms(sweep / "arms.csv", rows)
    if palr:
        write_palr(sweep / "palr.csv", palr.rows)
    _write(sweep / "report.md", markdown(context))
    _write(sweep / "report.html", render(context, sweep / "plots"))
    print_table(sweep, rows, base)
    for warning in context["warnings"]:
        print(f"note: {warning}")
    print(f"report in {sweep / 'report.html'}")


# ---------------------------------------------------------------- rollouts beside each other


def examples(table: Table, base: Arm) -> list[dict[str, Any]]:
    """Contradicting pictures on which the arms differ most, with what the first seed of each wrote."""
    start = [arm for arm in table.arms if not arm.trained][:1]
    others = [arm for arm in table.arms if arm.trained and arm is not base]
    arms = [*start, *([base] if base.trained else []), *others][:COLUMNS]
    ranked = []
    for id, sample in table.samples.items():
        if sample.prior is None or sample.prior.agrees:
            continue
        said = [(arm, arm.runs[0].texts[id]) for arm in arms if id in arm.runs[0].texts]
        if said:
            right = [same_text(response.answer, sample.answer) for _, response in said]
            ranked.append((-len({r.answer for _, r in said}), -len(set(right)), id, sample, said))
    ranked.sort(key=lambda found: found[:3])
    groups: dict[str, Any] = {}  # one picture of a question is enough
    for found in ranked:
        groups.setdefault(found[3].group, found)
    return [
        {
            "sample": sample,
            "said": [
                {
                    "arm": arm.label,
                    "seed": arm.runs[0].seed,
                    "response": response,
                    "right": same_text(response.answer, sample.answer),
                    "parts": coloured(response, arm.runs[0].spans),
                }
                for arm, response in said
            ],
            "left_out": len(table.arms) - len(arms),
        }
        for _, _, _, sample, said in list(groups.values())[:EXAMPLES]
    ]


def coloured(response: Response, spans: str) -> list[tuple[str, str]]:
    """A turn in its parts, each with the name of its kind."""
    student = "structured" if response.described else "plain"
    return [(piece, kind.value) for piece, kind in runs(response.text, student=student, spans=spans)]


def reused(sweep: Path, table: Table) -> dict[str, str]:
    """Which runs were made by another sweep."""
    paths = [path for cell in table.cells if (path := sweep / cell.folder / REUSED).exists()]
    places = sorted({str(Path(json.loads(path.read_text())["from"]).parent) for path in paths})
    return {"taken over": f"{len(paths)} runs, from {', '.join(places)}"} if paths else {}


def _write(path: Path, content: str) -> None:
    with drafted(path) as draft:
        draft.write_text(content, encoding="utf-8")
