"""Run one cell of a sweep: what a cell beside it knows already is taken over, a failure is written down.

The base's answers before training depend on the model, the prompt, the student's form and the benchmark
alone. The first cell that has them serves all others that would get the same; of cells side by side the first
makes them, and the others wait.
"""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vigos_cli.ablation.cells import ERROR, STARTED, SUMMARY
from vigos_cli.ablation.look import look
from vigos_cli.ablation.once import once
from vigos_cli.config import processes
from vigos_cli.config.provenance import recorded
from vigos_cli.config.run_digest import as_distill, hashed
from vigos_cli.config.schema import AblateRun, DistillRun, may_change
from vigos_cli.models.out_of_memory import with_advice
from vigos_cli.utils.files import drafted
from vigos_cli.utils.quiet import quieten

BEFORE = ("before", "before.jsonl", "before.json")  # in the order in which a run writes them


def run_cell(config: AblateRun) -> float | None:
    """The cell's Score after training; None where it failed, which its folder then tells.

    With several processes a failure ends the sweep: the process that failed would begin the next cell while
    the others still wait for it in this one.
    """
    quieten()
    from vigos_cli.models.pretrained import pick_device
    from vigos_cli.reporting.report import main_figure
    from vigos_cli.training.distill import distill
    from vigos_cli.utils import group

    out = Path(config.out)
    try:
        with with_advice(config), ExitStack() as held:
            if not (out / SUMMARY).exists() and processes.rank() == 0:
                (out / ERROR).unlink(missing_ok=True)
                held.enter_context(once(_lock(config), lambda: has_before(config)))
            summary = distill(as_distill(config))
        if config.palr_rows:
            group.start(pick_device(config.model.device))
            with group.first_alone() as mine:
                if mine:
                    look(config)
        return main_figure(summary["after"]) if summary else None
    except Exception as error:
        (out / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
        print(f"vigos: {out.name} failed: {error} (traceback in {out / ERROR})", file=sys.stderr)
        if processes.several():
            raise
        return None


def has_before(config: AblateRun) -> bool:
    """Whether the untrained answers are there; those of a cell beside this one are taken over."""
    return (Path(config.out) / BEFORE[-1]).exists() or share_before(config)


def _lock(config: AblateRun) -> Path:
    """Held to its end by the cell that makes the untrained answers."""
    return Path(config.out).parent / f".untrained-{hashed(untrained(asdict(config)))}.lock"


def share_before(config: AblateRun) -> bool:
    """Copy the untrained answers from a cell beside this one that has the same; whether there was one."""
    out = Path(config.out)
    if (out / BEFORE[-1]).exists():
        return False
    wanted = untrained(asdict(config))
    for started in sorted(out.parent.glob(f"[!.]*/{STARTED}")):
        if not (started.parent / BEFORE[-1]).exists():
            continue
        if untrained(json.loads(started.read_text())) == wanted:
            if (benches := started.parent / BEFORE[0]).is_dir():
                shutil.copytree(benches, out / BEFORE[0], dirs_exist_ok=True)
            for name in BEFORE[1:]:
                with drafted(out / name) as draft:
                    shutil.copyfile(started.parent / name, draft)
            return True
    return False


def untrained(config: dict[str, Any]) -> dict[str, Any]:
    """What of a run's configuration the answers of its untrained student depend on.

    Of the adapter only a saved one matters: a new one starts at zero, whatever its rank and seed.
    """
    wanted = ("model", "prompt", "bench", "adapter.path", "adapter.quantise", "routing.student")
    content = recorded(config, DistillRun)
    return {
        k: v
        for k, v in content.items()
        if v is not None and not may_change(k) and not {k, k.split(".")[0]}.isdisjoint(wanted)
    }
