"""The trials of the whole campaign, in the order of the tables."""

from __future__ import annotations

from campaign.trial import Trial


def trials(seed: int) -> list[Trial]:
    """All trials; their names and number depend on the seed only."""
    return []
