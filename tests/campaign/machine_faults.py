"""All faults of the machine: its disk, owners of files, memory, clocks, servers and limits."""

from __future__ import annotations

from campaign import clocks, disk, memory_limit, owners, removed, services, surroundings, trackers
from campaign.trial import Trial

KINDS = (disk, removed, owners, memory_limit, clocks, trackers, services, surroundings)


def trials(seed: int) -> list[Trial]:
    """The trials of all kinds of faults of the machine."""
    return [trial for kind in KINDS for trial in kind.trials(seed)]
