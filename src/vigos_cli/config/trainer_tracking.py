"""The groups `trainer` and `tracking`."""

from __future__ import annotations

from dataclasses import dataclass

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_share
from vigos_cli.utils.errors import ConfigError


@dataclass
class TrainerConfig:
    """The training run."""

    name: str = "default"  # name of the option; appears in reports
    steps: int | None = None  # optimizer steps; null: one pass over the data, without a last partial batch
    batch: int = 32  # rollouts per step, over all processes; a multiple of rollout.n
    micro_batch: int = 1  # rows per backward pass; changes memory and speed but not the gradient
    micro_tokens: int | None = None  # instead: as many rows as fit into so many tokens with padding, or one
    lr: float = 5e-6  # peak learning rate
    schedule: str = "linear"  # of the learning rate: linear or cosine (both to zero), constant
    warmup: int = 0  # number of steps of linear warm-up
    weight_decay: float = 0.0  # weight decay of AdamW
    max_grad_norm: float = 0.1  # gradients with a larger norm are scaled down to it
    optimizer: str = "adamw"  # adamw, paged_adamw_8bit
    gradient_checkpointing: bool = True  # recompute activations in the backward pass, which saves memory
    shard: str = "none"  # fsdp2: split the frozen weights among the processes; none: each has all of them
    checkpoint_every: int = 50  # steps between checkpoints; the last step always writes one
    eval_every: int = 0  # steps between greedy evaluations; 0: only before and after training
    stop_on_collapse: bool = True  # stop the run if valid rate, length or score collapses
    collapse_steps: int = 10  # number of last steps whose mean valid rate and length are judged
    collapse_valid: float = 0.5  # collapse: valid rate below this share of its highest earlier mean
    collapse_length: float = 0.1  # collapse: answers shorter than this share of their longest earlier mean
    collapse_cut_off: float = 0.9  # collapse: this share of answers cut off, and earlier at most half of it
    collapse_evaluations: int = 2  # collapse: so many scores in a row below the interval of the untrained one
    profile: bool = False  # record where the time of one warm step goes: profile.txt, profile-trace.json.gz
    dry_run: bool = False  # measure the largest step and evaluation; report memory, and time of the run

    def __post_init__(self) -> None:
        check_choice("trainer.schedule", self.schedule)
        check_choice("trainer.optimizer", self.optimizer)
        check_choice("trainer.shard", self.shard)
        check_at_least(1, trainer__steps=self.steps, trainer__checkpoint_every=self.checkpoint_every)
        check_at_least(1, trainer__batch=self.batch, trainer__micro_batch=self.micro_batch)
        check_at_least(1, trainer__micro_tokens=self.micro_tokens)
        check_at_least(0, trainer__warmup=self.warmup, trainer__weight_decay=self.weight_decay)
        check_at_least(0, trainer__eval_every=self.eval_every)
        check_at_least(1, trainer__collapse_steps=self.collapse_steps)
        check_at_least(1, trainer__collapse_evaluations=self.collapse_evaluations)
        check_share(
            trainer__collapse_valid=self.collapse_valid,
            trainer__collapse_length=self.collapse_length,
            trainer__collapse_cut_off=self.collapse_cut_off,
        )
        if self.profile and self.dry_run:
            raise ConfigError(
                "trainer.profile records a step of a run, which trainer.dry_run does not start: choose one"
            )
        check_positive(trainer__lr=self.lr, trainer__max_grad_norm=self.max_grad_norm)


@dataclass
class TrackingConfig:
    """Where metrics are written, besides metrics.jsonl."""

    name: str = "jsonl"  # jsonl (nothing else), wandb, tensorboard
    project: str = "vigos"  # wandb project
    mode: str = "offline"  # wandb: online, offline, disabled

    def __post_init__(self) -> None:
        check_choice("tracking.name", self.name)
        check_choice("tracking.mode", self.mode)
