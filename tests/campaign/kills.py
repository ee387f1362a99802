"""Kills and signals at random moments, in every command."""

from __future__ import annotations

from campaign import kills_of_distill, kills_of_eval, kills_of_sweeps, two_processes
from campaign.trial import Trial


def trials(seed: int) -> list[Trial]:
    """The trials of all groups."""
    modules = kills_of_distill, kills_of_eval, kills_of_sweeps, two_processes
    return [trial for module in modules for trial in module.trials(seed)]
