"""Run one cell of a sweep: train, evaluate, measure PALR, and record a failure."""

from __future__ import annotations

import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

from vigos_cli.ablation.cells import ERROR, SUMMARY
from vigos_cli.ablation.made_once import made_once
from vigos_cli.ablation.palr_runs import measure_palr
from vigos_cli.ablation.untrained_answers import has_untrained_answers, untrained_lock
from vigos_cli.config import torchrun
from vigos_cli.config.run_digest import as_distill
from vigos_cli.config.schema import AblateRun
from vigos_cli.models.out_of_memory import with_advice
from vigos_cli.utils.errors import FolderInUse
from vigos_cli.utils.heavy_imports import heavy_imports
from vigos_cli.utils.machine_errors import explained
from vigos_cli.utils.quiet import quieten


def run_cell(config: AblateRun) -> float | None:
    """Return the cell's Score after training, or None if it failed; error.txt then holds the traceback.

    With several processes a failure ends the whole sweep: the process that failed would start the next cell
    while the other processes still wait for it in this one.
    """
    with heavy_imports():
        quieten()
        from vigos_cli.models.pretrained import pick_device
        from vigos_cli.reporting.measures import main_figure
        from vigos_cli.training.distill import distill
        from vigos_cli.utils import process_group

    out = Path(config.out)
    process_group.start(pick_device(config.model.device))  # first: the lock below may be held for long
    try:
        with with_advice(config), ExitStack() as held:
            if not (out / SUMMARY).exists() and process_group.rank() == 0:
                (out / ERROR).unlink(missing_ok=True)
                held.enter_context(made_once(untrained_lock(config), lambda: has_untrained_answers(config)))
            summary = distill(as_distill(config))  # makes the untrained answers where they are missing
        if config.palr_rows:
            with process_group.first_alone() as mine:
                if mine:
                    measure_palr(config)
        return main_figure(summary["after"]) if summary else None
    except FolderInUse as error:  # the cell is not failed: its other process will finish it
        print(f"vigos: {out.name} is being run already: {error}", file=sys.stderr)
        return None
    except Exception as error:
        where = f" (traceback in {out / ERROR})"
        try:
            (out / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:  # the disk is full, or the folder is gone; the cell has no results either way
            where = ""
        print(f"vigos: {out.name} failed: {explained(error, out)}{where}", file=sys.stderr)
        if torchrun.several_processes():
            raise
        return None
