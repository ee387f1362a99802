"""`vigos distill`: train a student by on-policy self-distillation, and show what changed."""

from __future__ import annotations

from vigos_cli.config import DistillRun, UserError
from vigos_cli.quiet import quieten


def run(config: DistillRun) -> float | None:
    """Return the Score, or the first benchmark's accuracy, after training (what a sweeper maximises)."""
    quieten()
    from vigos_cli.distill import distill
    from vigos_cli.memory import OUT_OF_MEMORY, advice
    from vigos_cli.report import main_figure

    try:
        summary = distill(config)
    except OUT_OF_MEMORY as error:
        raise UserError(advice()) from error
    return main_figure(summary["after"]) if summary else None
