"""A training step of a published method: any micro-batch has the same gradient, and nothing to learn is 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from conftest import make_student
from written_rollouts import DATA, RIGHT, WRONG, routed, write

from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches
from vigos_cli.training import step
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step

SMALL = ("trainer.max_grad_norm=1e9", "rollout.max_new_tokens=40")


def one_step(student: Any, name: str, *overrides: str) -> tuple[dict[str, torch.Tensor], dict[str, Any], Any]:
    """The gradient, the report and the learner of the first step of 8 rollouts."""
    config = routed(name, *SMALL, *overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    line = train_step(learner, Batches(DATA, prompter, config), prompter, config)
    zero = torch.zeros(())
    gradient = {k: p.grad.clone() if p.grad is not None else zero for k, p in student.adapter.items()}
    return gradient, line, learner


def largest(gradient: dict[str, torch.Tensor]) -> float:
    return max(float(g.abs().max()) for g in gradient.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vcsd", "opd_v"])
def test_the_gradient_does_not_depend_on_the_micro_batch(name):
    whole, line, _ = one_step(make_student(), name, "trainer.micro_batch=8")
    assert line["supervised_tokens"] > 0 and largest(whole) > 0
    for size in (1, 3):
        split, _, _ = one_step(make_student(), name, f"trainer.micro_batch={size}")
        difference = max(float((whole[k] - split[k]).abs().max()) for k in whole)
        assert difference < 1e-5 * largest(whole)


def write_instead(texts: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Let the student write these texts for each prompt."""

    def written(student: Any, prepared: Any, *rest: Any) -> Any:
        return [
            (item, write(student, item, text, draw)) for item in prepared for draw, text in enumerate(texts)
        ]

    patch.setattr(step, "sample_rollouts", written)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sdpo", "u_opsd"])
def test_prompts_without_a_sibling_change_nothing_and_are_counted(name, monkeypatch):
    texts = {"sdpo": ["no box", "no box either"], "u_opsd": ["no box", WRONG.replace("orange", "red")]}[name]
    write_instead(texts, monkeypatch)
    student = make_student()
    before = student.adapter_state()
    gradient, line, learner = one_step(student, name)
    if name == "u_opsd":  # one of two agrees with itself: a majority, from which nothing disagrees
        assert line["valid_rate"] == 0.5
    assert line["supervised_tokens"] == 0 and largest(gradient) == 0
    assert learner.counts["step_without_supervision"] == 1
    assert all(torch.equal(before[key], p) for key, p in student.adapter.items())


@pytest.mark.slow
def test_vgs_needs_another_checkpoint(monkeypatch):
    write_instead([RIGHT, WRONG], monkeypatch)
    gradient, line, _ = one_step(make_student(), "vgs")
    assert line["supervised_tokens"] > 0
    assert largest(gradient) < 1e-6, "the initial model is its own student"
