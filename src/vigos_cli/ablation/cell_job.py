"""Run one cell as a job of Hydra in a worker process; what it prints goes to output.log in its folder.

Hydra's own launchers compose the configuration of a cell again. Here it arrives composed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig

from vigos_cli.ablation.run_cell import run_cell
from vigos_cli.config.compose import register, typed
from vigos_cli.config.schema import AblateRun

OUTPUT = "output.log"  # in a cell's folder: what the cell has printed


def run_composed(cell: tuple[DictConfig, Path]) -> None:
    """Run a cell from its composed configuration, which has the node `hydra`, and its folder."""
    config, folder = cell
    setup_globals()
    register()
    HydraConfig.instance().set_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    with _printing_to(folder / OUTPUT):
        context = HydraContext(config_loader=cast(Any, None), callbacks=Callbacks(config))
        done = run_job(_task, config, "hydra.sweep.dir", "hydra.sweep.subdir", hydra_context=context)
        _ = done.return_value  # raises what the job has raised


def _task(config: DictConfig) -> float | None:
    run = cast(AblateRun, typed(config, "ablate"))
    run.out = str(HydraConfig.get().runtime.output_dir)
    return run_cell(run)


@contextmanager
def _printing_to(file: Path) -> Iterator[None]:
    """Append everything that this process prints to a file, also what libraries print below Python."""
    streams = (sys.stdout, sys.stderr)
    kept = [os.dup(stream.fileno()) for stream in streams]
    with file.open("a", encoding="utf-8") as log:
        for stream in streams:
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    try:
        yield
    finally:
        for stream, own in zip(streams, kept, strict=True):
            stream.flush()
            os.dup2(own, stream.fileno())
            os.close(own)
