"""An engine that replaces rollouts by valid and invalid turns, because random weights write no valid one.

>>> engine = InjectedTurns(student, length=128, at_step=print)
>>> engine.roll_out(job)       # training: samples, then replaces; even rows are valid, odd ones are not
"""

from __future__ import annotations

from collections.abc import Callable

from vigos_cli.generation.sampler import SamplingJob, roll_out
from vigos_cli.models.student import Student
from vigos_cli.training.forced_turns import ForcedTurns
from vigos_cli.types import Rollout


class InjectedTurns(ForcedTurns):
    """Samples to the full length, as the dry run does, and keeps the answers of evaluations as they are."""

    def __init__(self, student: Student, length: int, at_step: Callable[[int], object] = lambda step: None):
        super().__init__(student, length, structured=True)
        self.at_step = at_step  # called with the number of steps that were taken, before each sampling

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """See `Engine`."""
        if len(job.key) != 3 or job.key[1] != "rollout":  # (seed, "rollout", step): not an evaluation
            return roll_out(self.real, job)
        self.at_step(int(str(job.key[2])))
        self.valid = True
        valid = super().roll_out(job)  # samples as well
        self.valid = False
        invalid = super().roll_out(job)
        return [(valid, invalid)[row % 2][row] for row in range(len(valid))]
