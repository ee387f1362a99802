"""The trials of the whole campaign, in the order of the tables."""

from __future__ import annotations

from campaign import (
    hostile_terminal,
    hostile_texts,
    kills,
    machine_faults,
    malformed_files,
    malformed_items,
    malformed_rows,
    malformed_runs,
    memory_of_evaluations,
    opened_pages,
)
from campaign.trial import Trial

MODULES = (
    kills,
    machine_faults,
    malformed_rows,
    malformed_items,
    malformed_files,
    malformed_runs,
    hostile_texts,
    hostile_terminal,
    opened_pages,
    memory_of_evaluations,
)


def trials(seed: int) -> list[Trial]:
    """All trials; their names and number depend on the seed only."""
    return [trial for module in MODULES for trial in module.trials(seed)]
