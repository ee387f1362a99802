"""`trainer.micro_tokens` splits a step by its tokens, and the split changes neither loss nor gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import distill_config, make_student, with_effect
from test_step import largest_difference

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.engine import InProcess
from vigos_cli.generation.sampler import SamplingJob, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches
from vigos_cli.training import step as module
from vigos_cli.training.dry_run import in_whole_rows
from vigos_cli.training.forced_turns import invalid_turn, valid_turn
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step
from vigos_cli.types import Rollout

LENGTHS = (30, 95, 44, 60, 26, 83)  # sampled tokens of each rollout
INVALID = (1, 4)
RUN = (f"trainer.batch={len(LENGTHS)}", "trainer.max_grad_norm=1e9", "adapter.dropout=0")


class Written(InProcess):
    """An engine whose rollouts have these lengths, and of which two are invalid."""

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        return [
            as_rollout(self.student, request, self.turn(i, bool(request.prompt.prefill)))
            for i, request in enumerate(job.requests)
        ]

    def turn(self, i: int, opened: bool) -> tuple[int, ...]:
        make = invalid_turn if i in INVALID else valid_turn
        return make(self.student, LENGTHS[i], structured=True, opened=opened)


def split_step(student: Any, *overrides: str) -> tuple[dict[str, Any], float, list[list[int]]]:
    """Gradient and loss of one step, and the lengths of the rows of each micro-batch."""
    config = distill_config(*RUN, *overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    learner.engine = Written(student)
    groups: list[list[int]] = []

    def recorded(*args: Any) -> Any:
        found = real(*args)
        groups.extend([row.length for row in group] for group in found)
        return found

    real = module.micro_batches
    kept = student.adapter_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "micro_batches", recorded)
        line = train_step(learner, Batches(PriorWorld(size=64), prompter, config), prompter, config)
    gradient = {name: p.grad.clone() for name, p in student.adapter.items()}
    student.load_adapter_state(kept, Path("kept"))
    assert line["valid_rate"] == pytest.approx(1 - len(INVALID) / len(LENGTHS))
    assert {"loss/perception", "loss/reasoning", "loss/fallback"} <= line.keys()
    return gradient, line["loss"], groups


def test_loss_and_gradient_do_not_depend_on_the_split():
    student = with_effect(make_student())
    whole, loss, (rows,) = split_step(student, "trainer.micro_batch=6")
    assert loss > 1e-3 and rows == sorted(rows, reverse=True)
    shapes = []
    # One row each; by rows; so few tokens that each row is alone; two budgets between; all rows at once.
    budgets = (1, 2 * rows[0], 3 * rows[1], 6 * rows[0])
    splits = [
        "trainer.micro_batch=1",
        "trainer.micro_batch=4",
        *(f"trainer.micro_tokens={n}" for n in budgets),
    ]
    for split in splits:
        gradient, same, groups = split_step(student, split)
        assert same == pytest.approx(loss, rel=1e-6), split
        assert largest_difference(whole, gradient) < 1e-5, split
        assert [length for group in groups for length in group] == rows
        shapes.append([len(group) for group in groups])
    assert shapes[0] == shapes[2] == [1] * 6 and shapes[-1] == [6]
    assert shapes[3][0] == 2 and len({tuple(shape) for shape in shapes}) == 5, shapes


def test_the_dry_run_has_at_least_the_tokens_of_a_micro_batch():
    config = distill_config("trainer.batch=8", "trainer.micro_batch=3", "rollout.max_new_tokens=100")

    def rows(tokens: int | None) -> tuple[int, int | None]:
        budget = replace(config, trainer=replace(config.trainer, micro_tokens=tokens))
        trainer = in_whole_rows(budget, prompt=60)
        return trainer.micro_batch, trainer.micro_tokens

    assert rows(None) == (3, None)
    assert [rows(tokens) for tokens in (100, 320, 321, 99999)] == [(1, None), (2, None), (3, None), (8, None)]
