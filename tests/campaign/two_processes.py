"""Kills of one of the two processes of a run, which exchange gradients with gloo."""

from __future__ import annotations

import signal
from functools import partial

from runs import RUN

from campaign import killing
from campaign.killing import Command, anywhere, undisturbed
from campaign.trial import Outcome, Space, Trial

GROUP = "kills of one of two processes"
BOTH = Command("distill in two processes", RUN, processes=2)
BOUND = 30.0  # seconds in which the other process must have ended


def trials(seed: int) -> list[Trial]:
    """The trials of this group."""
    return [Trial(f"kill rank {rank}", GROUP, partial(_kill, rank=rank)) for rank in "01"]


def _kill(space: Space, rank: str) -> Outcome:
    whole, other = undisturbed(space, BOTH), 1 - int(rank)
    moment, out, book = anywhere(space.rng, whole), space.folder / killing.RUN, space.folder / "diary-1"
    ended = killing.run(space, BOTH, out, book, [moment], rank)
    did = f"two processes: SIGKILL of rank {rank}"
    outcome = killing.repeated(space, BOTH, whole, [ended], did, [-signal.SIGKILL, 1])
    wrong = [] if outcome.right else [outcome.came_back]
    if ended.seconds[other] > BOUND:
        wrong.append(f"the other process ended only after {ended.seconds[other]:.0f} s")
    if len(lines := killing.said(ended)) != 1:
        wrong.append(f"the other process printed {lines}")
    came_back = f"`{lines[0]}` from the other process, then the same bytes" if not wrong else "; ".join(wrong)
    return Outcome(not wrong, outcome.moment, did, came_back)
