"""The report of a sweep: report.html, report.md, cells.csv, arms.csv, palr.csv and plots/.

write_report(Path("runs/losses"))       # covers every cell that is done; also prints the table

report.html explains itself to readers who do not know this project. It is one file without scripts, loads
nothing, and escapes all text, because some of it was written by models or comes from data.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vigos_cli.ablation.arms import Arm, SweepResults, override_text, read_sweep
from vigos_cli.ablation.compare_arms import (
    ArmRow,
    compare_arms,
    compared,
    find_reference,
    measures,
    verdict_on,
)
from vigos_cli.ablation.example_rollouts import examples
from vigos_cli.ablation.other_sweeps import REUSED
from vigos_cli.ablation.palr_results import ROLLOUTS, SHOWN_GROUPS, VISUAL_KINDS, SweepPalr, read_palr
from vigos_cli.ablation.paper_results import PAPER_COLUMNS, PAPER_PALR, PAPER_PALR_COLUMNS, paper_results
from vigos_cli.ablation.plots import draw_all, draw_palr
from vigos_cli.ablation.report_tables import print_arms, report_markdown, write_arms, write_cells, write_palr
from vigos_cli.ablation.report_text import (
    ANSWER_NAMES,
    answer_kinds,
    bases,
    difference_text,
    how_it_was_made,
    limitations,
    main_results,
    mean_text,
    measure_meaning,
    measure_name,
    measures_of,
    nats,
    palr_text,
    runs_text,
    warnings,
)
from vigos_cli.config.compose import restored
from vigos_cli.config.schema import DistillRun
from vigos_cli.reporting.embedded_images import data_uri
from vigos_cli.reporting.html import html_environment
from vigos_cli.reporting.routing_picture import picture_uri, routing_picture
from vigos_cli.types import Kind
from vigos_cli.utils.files import drafted


def write_report(sweep: Path, reference: str | None = None, repeat_over: Sequence[str] = ()) -> None:
    """Write the report of the finished cells, and print the table of arms."""
    results = read_sweep(sweep, repeat_over)
    if all(cell.state != "done" for cell in results.cells):
        print(f"no cell in {sweep} is done: no report")
        return
    rows = compare_arms(results.arms, reference)
    base = find_reference(results.arms, reference)
    assert base is not None
    palr = read_palr(sweep, results)
    context = _context(sweep, results, rows, base) | _palr_context(sweep, results, palr)
    write_cells(sweep / "cells.csv", results)
    write_arms(sweep / "arms.csv", rows)
    if palr:
        write_palr(sweep / "palr.csv", palr.rows)
    _write(sweep / "report.md", report_markdown(context))
    _write(sweep / "report.html", _html(context, sweep / "plots"))
    print_arms(sweep, rows, base)
    for warning in context["warnings"]:
        print(f"note: {warning}")
    print(f"report in {sweep / 'report.html'}")


def _context(sweep: Path, results: SweepResults, rows: Sequence[ArmRow], base: Arm) -> dict[str, Any]:
    """The content of report.html.j2 and report.md, without PALR."""
    return _settings(results) | {
        "title": sweep.resolve().name,
        "results": results,
        "done": sum(cell.state == "done" for cell in results.cells),
        "base": base,
        "models": len(bases(results)),
        "rows": rows,
        "shown": measures(results.arms),
        "answer_kinds": answer_kinds(rows),
        "answer_names": ANSWER_NAMES,
        "segment_kinds": [kind.value for kind in Kind],
        "main_results": main_results(rows, base),
        "warnings": warnings(results),
        "limitations": limitations(results),
        "plots": draw_all(results.arms, rows, sweep / "plots"),
        "paper_columns": PAPER_COLUMNS,
        "paper_rows": [(row, found) for row in rows if (found := paper_results(row.arm))],
        "examples": examples(results, base),
        "made": how_it_was_made(results) | _reused(sweep, results),
        "routing_picture": _routing_picture(results),
    }


def _routing_picture(results: SweepResults) -> str:
    """The routings of the finished cells as one picture, a data URI; those with the same name once."""
    configs = [cell.config for cell in results.cells if cell.state == "done"]
    routings = {
        f"routing={config['routing']['name']}": restored(config, DistillRun).routing for config in configs
    }
    return picture_uri(routing_picture(routings))


def _settings(results: SweepResults) -> dict[str, dict[str, str]]:
    """The keys that were varied and held fixed; keys that a varied option sets are listed as `implied`."""
    varied = {key: ", ".join(values) for key, values in results.varied.items()}
    options = {key.split(".")[0] for key in varied if key.endswith(".name")}
    implied = {key for key in varied if key.split(".")[0] in options and not key.endswith(".name")}
    return {
        "varied": {key: values for key, values in varied.items() if key not in implied},
        "implied": {key: values for key, values in varied.items() if key in implied},
        "fixed": {key: override_text(value) for key, value in results.fixed.items()},
    }


def _palr_context(sweep: Path, results: SweepResults, palr: SweepPalr | None) -> dict[str, Any]:
    return {
        "palr": palr,
        "palr_plot": draw_palr(results.arms, palr.rows, sweep / "plots") if palr else None,
        "rollouts": ROLLOUTS,
        "palr_groups": SHOWN_GROUPS,
        "visual_kinds": VISUAL_KINDS,
        "paper_palr": PAPER_PALR,
        "paper_palr_columns": PAPER_PALR_COLUMNS,
    }


def _reused(sweep: Path, results: SweepResults) -> dict[str, str]:
    """The runs that were copied from another sweep."""
    paths = [path for cell in results.cells if (path := sweep / cell.folder / REUSED).exists()]
    places = sorted({str(Path(json.loads(path.read_text())["from"]).parent) for path in paths})
    return {"copied": f"{len(paths)} runs, from {', '.join(places)}"} if paths else {}


def _html(context: Mapping[str, Any], plots: Path) -> str:
    """Fill the template; the figures in the folder `plots` are put into the page."""
    environment = html_environment()
    environment.filters["picture"] = data_uri

    def figure(name: str) -> str:
        return "data:image/svg+xml;base64," + b64encode((plots / f"{name}.svg").read_bytes()).decode()

    functions = (runs_text, mean_text, palr_text, nats, difference_text, verdict_on)
    functions += (measure_name, measure_meaning, measures_of, compared, figure)
    environment.globals.update({function.__name__: function for function in functions})
    return environment.get_template("report.html.j2").render(**context)


def _write(path: Path, content: str) -> None:
    with drafted(path) as draft:
        draft.write_text(content, encoding="utf-8")
