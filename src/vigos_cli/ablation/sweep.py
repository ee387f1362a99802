"""What `vigos ablate` does before the first cell of a sweep and after the last one.

before    every cell is composed, so that a bad value in any of them stops the sweep before it starts; the
          cells are listed, and those that another sweep has finished are copied
cells     either in worker processes (`workers`), which start here, or by Hydra's launcher
after     the report is written; the exit code is 1 if a cell failed
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vigos_cli.ablation.cells import add_to_list, cell_state, plan_cells, read_list
from vigos_cli.ablation.forecast import forecast
from vigos_cli.ablation.other_sweeps import copy_finished, find_finished
from vigos_cli.ablation.palr_runs import ERROR, LOOKING
from vigos_cli.ablation.parallel_cells import run_cells
from vigos_cli.ablation.workers import choose_workers
from vigos_cli.config import torchrun
from vigos_cli.config.compose import typed
from vigos_cli.config.schema import AblateRun
from vigos_cli.utils.errors import ConfigError, RunRefused, Stopped


class Sweep(Callback):
    """Hydra calls it before and after the cells (`hydra.callbacks` in conf/ablate.yaml)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """List the cells and copy finished ones; with cells=list or cells=report do only that and stop."""
        try:
            sweep = Path(config.hydra.sweep.dir)
            run = cast(AblateRun, typed(config, "ablate"))
            if run.cells == "report":
                if not read_list(sweep):
                    raise ConfigError(f"cells=report: {sweep} contains no sweep; set out= to its folder")
                raise Stopped(_report(sweep, run))
            cells = plan_cells(config)
            elsewhere = find_finished(cells, sweep, run.reuse)
            launcher = config.hydra.runtime.choices["hydra/launcher"]
            workers = choose_workers(run, launcher, [cell.config for cell in cells])
            expected = forecast(cells, sweep, elsewhere, at_once=max(1, len(workers)))
        except Exception as error:
            raise RunRefused from error
        if run.cells == "list":
            print("\n".join(expected.lines()))
            raise Stopped(0)
        if torchrun.launched_rank() == 0:
            print(expected.total())
        copy_finished(cells, sweep, elsewhere)
        if torchrun.launched_rank() == 0:
            add_to_list(sweep, cells)
        if workers:
            try:
                run_cells(config, sweep, expected.cells, workers)
            except Exception as error:
                raise RunRefused from error
            raise Stopped(_report(sweep, run))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report, after Hydra's launcher has run the cells."""
        if torchrun.launched_rank() == 0:
            run = cast(AblateRun, typed(config, "ablate"))
            raise Stopped(_report(Path(config.hydra.sweep.dir), run))


def _report(sweep: Path, run: AblateRun) -> int:
    """Write the report and print which cells failed; return the exit code."""
    from vigos_cli.ablation.sweep_report import write_report

    try:
        write_report(sweep, run.reference, run.repeat_over)
    except Exception as error:
        raise RunRefused from error
    lines = read_list(sweep)
    failed = [line["name"] for line in lines if cell_state(sweep / line["folder"]) == "failed"]
    unmeasured = [line["name"] for line in lines if (sweep / line["folder"] / LOOKING / ERROR).exists()]
    for names, what in ((failed, "cells"), (unmeasured, "measurements of PALR")):
        if names:
            print(f"{what} that failed: {len(names)} ({'; '.join(names)})")
    return 1 if failed or unmeasured else 0
