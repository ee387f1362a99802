"""The groups `trainer` and `tracking`."""

from __future__ import annotations

from dataclasses import dataclass

from vigos_cli.config.checks import check_at_least, check_choice, check_positive


@dataclass
class TrainerConfig:
    """One run of learning."""

    name: str = "default"  # the option's name, used in reports
    steps: int | None = None  # optimizer steps; null for one pass over the data, whole batches only
    batch: int = 32  # rollouts a step, over all processes; a multiple of rollout.n
    micro_batch: int = 1  # rows learned from at once; changes memory and speed, never the gradient
    lr: float = 5e-6  # peak learning rate
    schedule: str = "linear"  # linear, cosine (both to zero), constant
    warmup: int = 0  # steps of linear warm-up
    weight_decay: float = 0.0  # AdamW
    max_grad_norm: float = 0.1  # gradient clipping
    optimizer: str = "adamw"  # adamw, paged_adamw_8bit
    gradient_checkpointing: bool = True  # recompute activations in the backward pass to save memory
    checkpoint_every: int = 50  # steps between checkpoints; the last step always leaves one
    eval_every: int = 0  # steps between greedy evaluations; 0 for before and after only
    dry_run: bool = False  # one step at its largest instead of the run: its memory by phase, its time

    def __post_init__(self) -> None:
        check_choice("trainer.schedule", self.schedule)
        check_choice("trainer.optimizer", self.optimizer)
        check_at_least(1, trainer__steps=self.steps, trainer__checkpoint_every=self.checkpoint_every)
        check_at_least(1, trainer__batch=self.batch, trainer__micro_batch=self.micro_batch)
        check_at_least(0, trainer__warmup=self.warmup, trainer__weight_decay=self.weight_decay)
        check_at_least(0, trainer__eval_every=self.eval_every)
        check_positive(trainer__lr=self.lr, trainer__max_grad_norm=self.max_grad_norm)


@dataclass
class TrackingConfig:
    """Where metrics go besides metrics.jsonl."""

    name: str = "jsonl"  # jsonl alone, or wandb or tensorboard as well
    project: str = "vigos"  # wandb project
    mode: str = "offline"  # wandb: online, offline, disabled

    def __post_init__(self) -> None:
        check_choice("tracking.name", self.name)
        check_choice("tracking.mode", self.mode)
