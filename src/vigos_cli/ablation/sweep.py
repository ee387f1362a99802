"""What happens before the first cell of a sweep and after the last.

before    every cell is composed, so that a bad value in any stops the sweep before it starts; they are
          listed, and those that another sweep has done are copied
after     the report; the exit code is 1 where a cell failed
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vigos_cli.ablation.cells import planned, remember, remembered, state
from vigos_cli.ablation.estimate import estimate
from vigos_cli.ablation.look import ERROR, LOOKING
from vigos_cli.ablation.reuse import find, take_over
from vigos_cli.config import torchrun
from vigos_cli.config.compose import typed
from vigos_cli.config.schema import AblateRun
from vigos_cli.utils.errors import ConfigError, RunRefused, Stopped


class Sweep(Callback):
    """Hydra calls it around the cells (`hydra.callbacks` in conf/ablate.yaml)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """List the cells, or write the report of what is there, and stop where no more is asked for."""
        try:
            sweep = Path(config.hydra.sweep.dir)
            run = cast(AblateRun, typed(config, "ablate"))
            if run.cells == "report":
                if not remembered(sweep):
                    raise ConfigError(f"cells=report: {sweep} holds no sweep; name its folder with out=")
                raise Stopped(_report(sweep, run.reference))
            cells = planned(config)
            elsewhere = find(cells, sweep, run.reuse)
            found = estimate(cells, sweep, elsewhere)
        except Exception as error:
            raise RunRefused from error
        if run.cells == "list":
            print("\n".join(found.lines()))
            raise Stopped(0)
        if torchrun.launched_rank() == 0:
            print(found.total())
        take_over(cells, sweep, elsewhere)
        if torchrun.launched_rank() == 0:
            remember(sweep, cells)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report."""
        if torchrun.launched_rank() == 0:
            run = cast(AblateRun, typed(config, "ablate"))
            raise Stopped(_report(Path(config.hydra.sweep.dir), run.reference))


def _report(sweep: Path, reference: str | None) -> int:
    """The exit code."""
    from vigos_cli.ablation.report import write_report

    try:
        write_report(sweep, reference)
    except Exception as error:
        raise RunRefused from error
    lines = remembered(sweep)
    failed = [line["name"] for line in lines if state(sweep / line["folder"]) == "failed"]
    unlooked = [line["name"] for line in lines if (sweep / line["folder"] / LOOKING / ERROR).exists()]
    for names, what in ((failed, "cells"), (unlooked, "measurements of PALR")):
        if names:
            print(f"{what} that failed: {len(names)} ({'; '.join(names)})")
    return 1 if failed or unlooked else 0
