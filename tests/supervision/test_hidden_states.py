"""A context is read no further than its last supervised token needs, and gradients stay the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import distill_config, make_student, with_effect

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision import hidden_states as reading
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step
from vigos_cli.types import Kind

SMALL = ("trainer.batch=4", "trainer.micro_batch=2", "trainer.max_grad_norm=1e9", "rollout.max_new_tokens=60")


def gradient(*overrides: str) -> tuple[dict[str, torch.Tensor], float]:
    """The gradient and the loss of one step of a student that differs from its teachers in every token."""
    student, config = with_effect(make_student()), distill_config(*SMALL, *overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    line = train_step(learner, Batches(PriorWorld(size=32), prompter, config), prompter, config)
    grads = {name: p.grad for name, p in student.adapter.items() if p.grad is not None}
    return grads, line["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["vigos", "no_reasoning", "opsd", "vigos_code", "sdft"])
def test_what_is_left_unread_changes_nothing(routing, monkeypatch):
    short, loss = gradient(f"routing={routing}")
    monkeypatch.setattr(reading, "_ends", lambda contexts, tokens: [len(c.ids) for c in contexts])
    whole, same = gradient(f"routing={routing}")
    scale = max(float(grad.abs().max()) for grad in whole.values())
    assert scale > 0 and loss > 1e-3 and loss == pytest.approx(same, rel=1e-6)
    assert max(float((short[name] - whole[name]).abs().max()) for name in whole) < 1e-5 * scale


@pytest.fixture(scope="module")
def rows(tiny) -> list[Supervised]:
    config = distill_config(*SMALL)
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    prepared, _ = Batches(PriorWorld(size=32), prompter, config).at(0)
    return supervise_all(sample_rollouts(tiny, prepared, prompter, config, 0), prompter, config)


def widths(student: Any, context: str, rows: list[Supervised], patch: Any) -> list[int]:
    """How many ids of each row the model reads for the tokens that this context supervises."""
    seen: list[int] = []
    batch = type(student).batch

    def count(self: Any, sequences: Any, *more: Any, **options: Any) -> Any:
        seen.extend(map(len, sequences))
        return batch(self, sequences, *more, **options)

    patch.setattr(type(student), "batch", count)
    tokens = [
        (b, i)
        for b, row in enumerate(rows)
        for term in row.terms
        if context in (STUDENT, term.by)
        for i in term.tokens
    ]
    with torch.no_grad():
        reading.predicting_states(
            reading.hidden_states(student, context, rows, tokens), context, rows, tokens
        )
    return seen


def test_the_teacher_of_the_description_stops_where_it_ends(tiny, rows, monkeypatch):
    for row, width in zip(rows, widths(tiny, "perception", rows, monkeypatch), strict=True):
        last = max(i for i, kind in enumerate(row.segments.kinds) if kind is Kind.DESCRIPTION)
        assert width == len(row.contexts["perception"].prompt.ids) + last
        assert width < len(row.contexts["perception"].ids) - 10


def test_the_student_reads_up_to_its_last_supervised_token(tiny, rows, monkeypatch):
    for row, width in zip(rows, widths(tiny, STUDENT, rows, monkeypatch), strict=True):
        last = max(i for term in row.terms for i in term.tokens)
        assert width == len(row.rollout.prompt.ids) + last
