"""The state that training changes: adapter, optimizer, EMA weights, step and counters."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vigos_cli.config.schema import DistillRun, TrainerConfig
from vigos_cli.generation.engine import Engine
from vigos_cli.models.out_of_memory import in_phase
from vigos_cli.models.peak_memory import PhasePeaks
from vigos_cli.models.student import Student


@dataclass
class Learner:
    """The student and everything else that an optimizer step changes."""

    student: Student
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor] | None  # the teachers' adapter under teacher=ema
    engine: Engine | None = None  # samples the rollouts; None: the student in this process
    step: int = 0  # optimizer steps taken
    counts: Counter[str] = field(default_factory=Counter)  # rules applied to samples, rollouts and steps
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # by phase
    peaks: PhasePeaks | None = None  # memory by phase; measured in a dry run only

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time spent in the block to `phase`; an out-of-memory error in it names the phase."""
        start = self._clock()
        try:
            with in_phase(phase), self.peaks.of(phase) if self.peaks else nullcontext():
                yield
        finally:
            self.seconds[phase] += self._clock() - start

    def _clock(self) -> float:
        """The time in seconds, read after the GPU has finished all work that was started before."""
        if self.student.device.type == "cuda":
            torch.cuda.synchronize(self.student.device)
        return time.perf_counter()

    def update(self, lr: float, ema_decay: float) -> None:
        """Step the optimizer with this learning rate, then move the EMA weights towards the adapter."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr
        self.optimizer.step()
        if self.ema is not None:
            for name, p in self.student.adapter.items():
                self.ema[name].lerp_(p.data, 1 - ema_decay)


def make_learner(student: Student, config: DistillRun) -> Learner:
    """Build the learner of step 0."""
    optimizer = _make_optimizer(list(student.adapter.values()), config.trainer)
    if config.trainer.gradient_checkpointing:
        student.recompute_activations()
    ema = None
    if config.teacher.weights == "ema":
        ema = {name: value.to(student.device) for name, value in student.adapter_state().items()}
    return Learner(student, optimizer, ema)


def _make_optimizer(parameters: list[Tensor], trainer: TrainerConfig) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": trainer.lr, "weight_decay": trainer.weight_decay}
    if trainer.optimizer == "paged_adamw_8bit":
        from bitsandbytes.optim.adamw import PagedAdamW8bit

        return PagedAdamW8bit(parameters, **options)
    return torch.optim.AdamW(parameters, **options)
