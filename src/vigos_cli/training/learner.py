"""The state that training changes: adapter, optimizer, the teachers' weights, step and counters."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from vigos_cli.config.schema import DistillRun, TrainerConfig
from vigos_cli.generation.engine import Engine
from vigos_cli.models.out_of_memory import in_phase
from vigos_cli.models.peak_memory import PhasePeaks
from vigos_cli.models.student import Student
from vigos_cli.supervision.teacher_weights import TeacherWeights, load_other_checkpoints
from vigos_cli.training.phase_times import PREFIX


@dataclass
class Learner:
    """The student and everything else that an optimizer step changes."""

    student: Student
    optimizer: torch.optim.Optimizer
    teachers: TeacherWeights
    engine: Engine | None = None  # samples the rollouts; None: the student in this process
    step: int = 0  # optimizer steps taken
    counts: Counter[str] = field(default_factory=Counter)  # rules applied to samples, rollouts and steps
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # by phase
    peaks: PhasePeaks | None = None  # memory by phase; measured in a dry run and a profile

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time spent in the block to `phase`; an out-of-memory error in it names the phase.

        A profiler sees the block under the name of the phase (`phase_times`).
        """
        start = self._clock()
        try:
            measured = self.peaks.of(phase) if self.peaks else nullcontext()
            with in_phase(phase), measured, record_function(f"{PREFIX}{phase}"):
                try:
                    yield
                finally:
                    self._wait()
        finally:
            self.seconds[phase] += self._clock() - start

    def _clock(self) -> float:
        """The time in seconds, read after the GPU has finished all work that was started before."""
        self._wait()
        return time.perf_counter()

    def _wait(self) -> None:
        if self.student.device.type == "cuda":
            torch.cuda.synchronize(self.student.device)

    def update(self, lr: float) -> None:
        """Step the optimizer with this learning rate; the teachers' averages and copies follow."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr
        self.optimizer.step()
        self.teachers.follow(self.student, self.step + 1)


def make_learner(student: Student, config: DistillRun) -> Learner:
    """Build the learner of step 0."""
    optimizer = _make_optimizer(list(student.adapter.values()), config.trainer)
    if config.trainer.gradient_checkpointing:
        student.recompute_activations()
    teachers = TeacherWeights.of_run(student, config.routing, config.teacher)
    load_other_checkpoints(teachers, student, config)
    return Learner(student, optimizer, teachers)


def _make_optimizer(parameters: list[Tensor], trainer: TrainerConfig) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": trainer.lr, "weight_decay": trainer.weight_decay}
    if trainer.optimizer == "paged_adamw_8bit":
        from bitsandbytes.optim.adamw import PagedAdamW8bit

        return PagedAdamW8bit(parameters, **options)
    return torch.optim.AdamW(parameters, **options)
