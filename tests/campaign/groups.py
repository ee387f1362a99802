"""The trials of the whole campaign, in the order of the tables."""

from __future__ import annotations

from campaign import malformed_files, malformed_items, malformed_rows, malformed_runs
from campaign.trial import Trial

MODULES = (malformed_rows, malformed_items, malformed_files, malformed_runs)


def trials(seed: int) -> list[Trial]:
    """All trials; their names and number depend on the seed only."""
    return [trial for module in MODULES for trial in module.trials(seed)]
