"""`vigos distill`: train a student by on-policy self-distillation."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from vigos_cli.config.schema import DistillRun
from vigos_cli.utils.errors import Stopped
from vigos_cli.utils.heavy_imports import heavy_imports
from vigos_cli.utils.quiet import quieten

COLLAPSED = 3  # exit code


def run(config: DistillRun) -> float | None:
    """Return the Score, or the accuracy on the first benchmark, after training (for Hydra sweepers).

    A run that was stopped because its model collapsed ends with exit code 3. In a sweep it is a result like
    any other, with its low score, so the other runs go on and a sweeper learns from it.
    """
    with heavy_imports():
        quieten()
        from vigos_cli.models.out_of_memory import with_advice
        from vigos_cli.reporting.measures import main_figure
        from vigos_cli.training.distill import distill
        from vigos_cli.utils import process_group

    with with_advice(config):
        summary = distill(config)
    # All processes of the run must end with the same exit code; only the first one has the summary.
    stopped = process_group.gather(summary and summary.get("stopped"))[0]
    if stopped and HydraConfig.get().mode == RunMode.RUN:
        raise Stopped(COLLAPSED)
    return main_figure(summary["after"]) if summary else None
