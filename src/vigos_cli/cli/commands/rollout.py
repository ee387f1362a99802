"""`vigos rollout`: sample from a model on a data set, and show the rollouts."""

from __future__ import annotations

import json
from pathlib import Path

from vigos_cli.config.schema import RolloutRun
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.heavy_imports import heavy_imports
from vigos_cli.utils.quiet import quieten

SHOWN = 3
FIRST, LAST = 500, 200  # characters of a long answer that the terminal shows


def run(config: RolloutRun) -> None:
    """Write rollouts.jsonl, summary.json and rollouts.html; show some of it, and the verdict."""
    if config.data.decontaminate:
        raise ConfigError("data.decontaminate is a key of vigos distill: vigos rollout asks no benchmark")
    with heavy_imports():
        quieten()
        from vigos_cli.analysis.palr_table import print_palr_table
        from vigos_cli.analysis.rollout_run import PAGE, sample
        from vigos_cli.models.out_of_memory import with_advice
        from vigos_cli.reporting.terminal_tables import print_readiness
        from vigos_cli.utils.console import Terminal

    with with_advice(config):
        lines = sample(config)
    console = Terminal()
    for line in lines[:SHOWN]:
        verdict = "right" if line["correct"] else "wrong" if line["valid"] else f"invalid ({line['reason']})"
        console.print(f"{line['question']}  reference: {line['reference']}", style="bold", markup=False)
        console.print(f"  {shortened(line['text'])}\n  {verdict}", markup=False)
    if config.looking:
        print_palr_table(lines)
    console.print(f"all rollouts as a page: {config.out}/{PAGE}", markup=False, soft_wrap=True)
    print_readiness(json.loads((Path(config.out) / "summary.json").read_text())["readiness"])


def shortened(text: str) -> str:
    """The beginning and the end of a long answer, which would push the verdict off the screen."""
    left_out = len(text) - FIRST - LAST
    return text if left_out < LAST else f"{text[:FIRST]} [... {left_out:,} characters ...] {text[-LAST:]}"
