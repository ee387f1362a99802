"""`vigos distill`: train a student by on-policy self-distillation."""

from __future__ import annotations

from vigos_cli.config.schema import DistillRun
from vigos_cli.utils.quiet import quieten


def run(config: DistillRun) -> float | None:
    """Return the Score, or the accuracy on the first benchmark, after training (for Hydra sweepers)."""
    quieten()
    from vigos_cli.models.out_of_memory import with_advice
    from vigos_cli.reporting.measures import main_figure
    from vigos_cli.training.distill import distill

    with with_advice(config):
        summary = distill(config)
    return main_figure(summary["after"]) if summary else None
