"""The number of steps of a run, and the learning rate of each step."""

from __future__ import annotations

from math import cos, pi

from vigos_cli.config.schema import DistillRun, TrainerConfig


def total_steps(config: DistillRun, rows: int) -> int:
    """Steps of the run: `trainer.steps`, or one pass over this many rows of data."""
    if config.trainer.steps is not None:
        return config.trainer.steps
    return max(1, rows * config.rollout.n // config.trainer.batch)


def learning_rate(trainer: TrainerConfig, step: int, steps: int) -> float:
    """The rate of one step (0-based): linear warm-up, then linear or cosine to zero, or constant."""
    if step < trainer.warmup:
        return trainer.lr * (step + 1) / trainer.warmup
    done = (step - trainer.warmup) / max(1, steps - trainer.warmup)
    shape = {"linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2, "constant": 1.0}
    return trainer.lr * shape[trainer.schedule]
