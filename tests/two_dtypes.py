"""One training step in float32 and in bfloat16, on the same weights and the same rollouts.

    students = both_dtypes("seed=1")                         # {"float32": ..., "bfloat16": ...}
    turns = own_turns(students["float32"], "routing=vigos")
    steps = [one_step(student, turns, "routing=vigos") for student in students.values()]
    compare(*steps)                      # Difference(loss=0.002, gradient=0.03, cosine=0.9995)

The float32 student has the weights of the bfloat16 student, so that only the arithmetic differs. The adapter
is float32 in both. Its second factor is not zero as in a new adapter, because then the first would have no
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from conftest import distill_config, make_student, with_effect
from torch import Tensor

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.student import Student
from vigos_cli.supervision import hidden_states as reading
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.rollouts import reference_completion, sample_rollouts
from vigos_cli.training import step
from vigos_cli.training.learner import make_learner
from vigos_cli.types import Rollout

DTYPES = ("float32", "bfloat16")
ROWS = 6
COMMON = ("adapter.dropout=0", "trainer.max_grad_norm=1e9", f"trainer.batch={ROWS}", "trainer.micro_batch=3")
# All that train; routing=two_pass has no loss.
ROUTINGS = ("vigos", "vigos_code", "opsd", "opsd_structured", "no_perception", "no_reasoning", "no_reference")
ROUTINGS = (*ROUTINGS, "other_answer", "noise_image", "sft")

Turns = list[tuple[int, ...]]  # the sampled tokens of each row of the batch
Recorded = list[tuple[Prepared, Rollout]]
Batch = tuple[Prompter, Batches, Any]


@dataclass(frozen=True)
class Step:
    """What one step computed: the loss, the adapter's gradient, its line of metrics.jsonl, hidden states."""

    loss: float
    gradient: dict[str, Tensor]
    line: dict[str, Any]
    hidden: list[Tensor]


@dataclass(frozen=True)
class Difference:
    """How far two steps differ."""

    exact: float  # the loss in float32
    loss: float  # relative
    gradient: float  # norm of the difference divided by the norm
    cosine: float


def both_dtypes(*overrides: str, seed: int = 0, size: float = 0.02) -> dict[str, Student]:
    """A student for each dtype, with the same frozen weights and the same adapter."""
    students = {name: make_student(*overrides, *COMMON, f"model.dtype={name}") for name in DTYPES}
    rounded = dict(with_effect(students["bfloat16"], size, seed).net.named_parameters())
    with torch.no_grad():
        for name, value in students["float32"].net.named_parameters():
            value.copy_(rounded[name])
    return students


def a_batch(student: Student, *overrides: str) -> Batch:
    """The prompts and the first batch of a run on PriorWorld."""
    config = distill_config(*overrides, *COMMON)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    return prompter, Batches(PriorWorld(size=64, seed=config.seed), prompter, config), config


def own_turns(student: Student, *overrides: str) -> Turns:
    """What the student samples. Every third turn loses its second half, and so it is invalid."""
    prompter, batches, config = a_batch(student, *overrides)
    rollouts = sample_rollouts(student, batches.at(0)[0], prompter, config, 0)
    ids = [rollout.ids for _, rollout in rollouts]
    return [turn[: len(turn) // 2] if i % 3 == 2 else turn for i, turn in enumerate(ids)]


def written_turns(student: Student, *overrides: str) -> Turns:
    """Turns with a given text, for a model that cannot write any; every third one is invalid."""
    valid = " It is red. </think> \\boxed{red}"
    if distill_config(*overrides).routing.student.format == "structured":
        valid = f" A red cube. </description> <think>{valid}"
    texts = [" A red cube." if i % 3 == 2 else valid for i in range(ROWS)]
    return [tuple(student.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def rollouts_of(student: Student, turns: Turns, *overrides: str) -> Recorded:
    """The turns as rollouts of the first batch; the control `sft` completes them by the reference."""
    prompter, batches, config = a_batch(student, *overrides)
    rollouts = [
        (item, as_rollout(student, Request(item.key, item.prompt), turn))
        for item, turn in zip(batches.at(0)[0], turns, strict=True)
    ]
    if config.routing.student.writes == "reference":
        return [(item, reference_completion(student, prompter, item, rollout)) for item, rollout in rollouts]
    return rollouts


def one_step(student: Student, turns: Turns, *overrides: str) -> Step:
    """Take a step on these turns, and put the adapter back."""
    rollouts = rollouts_of(student, turns, *overrides)
    prompter, batches, config = a_batch(student, *overrides)
    before, states = student.adapter_state(), []
    with (
        mock.patch.object(step, "sample_rollouts", lambda *_: rollouts),
        mock.patch.object(step, "hidden_states", _noting(step.hidden_states, states)),
        mock.patch.object(reading, "teacher_states", _noting(reading.teacher_states, states)),
    ):
        line = step.train_step(make_learner(student, config), batches, prompter, config)
    gradient = {name: value.grad for name, value in student.adapter.items() if value.grad is not None}
    with torch.no_grad():
        for name, value in student.adapter.items():
            value.copy_(before[name])
            value.grad = None
    return Step(line["loss"], gradient, line, states)


def _noting(function: Callable[..., Tensor], states: list[Tensor]) -> Callable[..., Tensor]:
    def wrapped(*args: Any) -> Tensor:
        states.append(function(*args))
        return states[-1]

    return wrapped


def compare(exact: Step, other: Step) -> Difference:
    """The relative difference of loss and gradient from `exact`, and the cosine of the gradients."""
    a, b = (torch.cat([g.double().flatten() for g in s.gradient.values()]) for s in (exact, other))
    return Difference(
        exact=exact.loss,
        loss=abs(other.loss - exact.loss) / abs(exact.loss),
        gradient=float((a - b).norm() / a.norm()),
        cosine=float(a @ b / (a.norm() * b.norm())),
    )
