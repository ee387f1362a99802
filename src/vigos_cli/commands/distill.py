"""`vigos distill`: train a student by on-policy self-distillation, and show what changed."""

from __future__ import annotations

from vigos_cli.config import DistillRun
from vigos_cli.quiet import quieten


def run(config: DistillRun) -> float | None:
    """Return the Score, or the first benchmark's accuracy, after training (what a sweeper maximises)."""
    quieten()
    from vigos_cli.distill import distill
    from vigos_cli.out_of_memory import with_advice
    from vigos_cli.report import main_figure

    with with_advice(config):
        summary = distill(config)
    return main_figure(summary["after"]) if summary else None
