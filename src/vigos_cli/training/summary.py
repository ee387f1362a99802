"""Write the results of a finished run: summary.json, the adapter's card, curves and table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vigos_cli.config.provenance import CHANGES, commit, versions
from vigos_cli.config.schema import DistillRun
from vigos_cli.models.adapter_folder import write_card
from vigos_cli.models.peak_memory import peak_gib
from vigos_cli.reporting.curves import draw_curves
from vigos_cli.reporting.measures import evaluations
from vigos_cli.reporting.terminal_tables import print_before_and_after, print_differences
from vigos_cli.training.best_adapter import best_note
from vigos_cli.training.clipping import closing_note, zero_gradient_rate
from vigos_cli.training.learner import Learner
from vigos_cli.training.sampler_gap import whole_gap
from vigos_cli.utils import process_group
from vigos_cli.utils.files import read_lines, write_json


def summarise_run(
    learner: Learner,
    config: DistillRun,
    lines: list[dict[str, Any]],
    before: dict[str, Any],
    after: dict[str, Any],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Build `summary.json`: results, versions, configuration; `lines` are those of metrics.jsonl."""
    student = learner.student
    return {
        "before": before,
        "after": after,
        **_mean_rates(lines),
        "zero_gradient_rate": zero_gradient_rate(lines),
        "sampler_gap": whole_gap(lines),
        "counts": dict(learner.counts),
        "quantised_modules": student.quantised_modules,
        "trainable_parameters": sum(p.numel() for p in student.adapter.values()),
        "commit": commit(),
        "versions": versions(),
        "seeds": {"run": config.seed, "bench": config.bench.seed},
        "processes": process_group.size(),
        "device": str(student.device),
        "engine": (learner.engine and learner.engine.facts()) or {"name": "hf"},
        "seconds": {phase: round(value, 2) for phase, value in learner.seconds.items()},
        "peak_gib": peak_gib(student.device),
        "changes": read_lines(Path(config.out) / CHANGES),  # keys changed when the run was resumed
        "config": asdict(config),
        **facts,
    }


def _mean_rates(lines: list[dict[str, Any]]) -> dict[str, float | None]:
    """Valid and fallback rates over all rollouts of the run; None without rollouts."""
    rollouts = sum(line["rollouts"] for line in lines)
    names = ("valid_rate", "fallback_rate")
    if not rollouts:
        return dict.fromkeys(names)
    return {name: sum(line.get(name, 0) * line["rollouts"] for line in lines) / rollouts for name in names}


def write_results(config: DistillRun, lines: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Write the adapter's card, the curves and the summary, and print the table of before and after."""
    out, steps, best = Path(config.out), summary["steps"], summary["best"]
    title = f"{config.routing.name}, loss {config.loss.name}, seed {config.seed}, {steps} steps"
    if summary["stopped"]:
        title += f", stopped: {summary['stopped']}"
    found = evaluations(summary["before"], lines) | {steps: summary["after"]}
    write_card(out / "adapter", config, summary)
    draw_curves(lines, found, out / "curves.png", title, best=best and best["step"])
    write_json(out / "summary.json", summary)  # last: its presence means that the run is finished
    print_before_and_after(summary["before"], summary["after"], title)
    if summary["differences"]:
        print_differences(summary["differences"], "paired differences", ("before", "after"))
    if share := summary["evaluation_share"]:
        print(f"the evaluations took {share:.0%} of the run's time")
    if note := closing_note(config.loss, summary["zero_gradient_rate"]):
        print(note)
    if config.trainer.eval_every:
        print(best_note(best, summary["before"]))
    print(f"adapter and figures in {out}")
