"""`vigos ablate`: one cell of a sweep; what surrounds the cells is in `vigos_cli.ablation.sweep`."""

from __future__ import annotations

from vigos_cli.config.schema import AblateRun


def run(config: AblateRun) -> float | None:
    """Return the cell's Score after training; a cell that is done is not run again."""
    from vigos_cli.ablation.run_cell import run_cell

    return run_cell(config)
