"""`vigos ablate`: run one cell of a sweep (`vigos_cli.ablation.sweep` has the rest)."""

from __future__ import annotations

from vigos_cli.config.schema import AblateRun


def run(config: AblateRun) -> float | None:
    """Return the Score of the cell after training; a finished cell is not run again."""
    from vigos_cli.ablation.run_cell import run_cell

    return run_cell(config)
