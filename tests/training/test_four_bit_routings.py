"""Every routing takes a training step on a 4-bit model of a real family, and its adapter changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import distill_config, make_student
from twins import save_twin

from vigos_cli.cli.explain import options
from vigos_cli.config.supervision_terms import trains
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.rollouts import reference_completion
from vigos_cli.training import step
from vigos_cli.training.learner import make_learner

GROUP = ("rollout.n=8", "trainer.batch=8", "trainer.micro_batch=4", "adapter.dropout=0", "loss.clip=none")
WRONG = "wrong"


@pytest.fixture(scope="module")
def overrides(tmp_path_factory) -> tuple[str, ...]:
    folder: Path = save_twin("qwen2vl", tmp_path_factory.mktemp("twin"))
    return ("model=custom", f"model.path={folder}", "adapter=qlora", "data=priorworld", "model.device=cpu")


def turns_of(form: str, answer: str) -> list[str]:
    """Eight turns: five are right, two agree in a wrong answer, and one is broken."""
    opening = "A thing. </description> <think>" if form == "structured" else ""
    whole = [f"{opening} It is so. </think> \\boxed{{{said}}}" for said in (*[answer] * 5, WRONG, WRONG)]
    return [*whole, "A thing."]


def first_step(student: Any, config: Any) -> dict[str, Any]:
    """The line of one step on written turns."""
    prompter = Prompter(student.processor, config.prompt, config.routing)
    batches = Batches(PriorWorld(size=16), prompter, config)
    (item,), _ = batches.at(0)
    rollouts = []
    for draw, text in enumerate(turns_of(config.routing.student.format, item.reference)):
        ids = (
            *student.tokenizer(text, add_special_tokens=False)["input_ids"],
            student.tokenizer.eos_token_id,
        )
        rollouts.append((item, as_rollout(student, Request(item.key, item.prompt, draw), ids)))
    if config.routing.student.writes == "reference":
        rollouts = [(i, reference_completion(student, prompter, i, rollout)) for i, rollout in rollouts]
    with mock.patch.object(step, "sample_rollouts", lambda *_: rollouts):
        return step.train_step(make_learner(student, config), batches, prompter, config)


@pytest.mark.slow
@pytest.mark.parametrize("routing", sorted(set(options("routing")) - {"two_pass"}))
def test_a_step_on_four_bit_weights(overrides, routing):
    config = distill_config(*overrides, *GROUP, f"routing={routing}")
    assert trains(config.routing)
    student = make_student(*overrides, *GROUP, f"routing={routing}")
    before = student.adapter_state()
    line = first_step(student, config)
    assert student.quantised_modules == 14
    assert math.isfinite(line["loss"]) and line["grad_norm"] and line["supervised_tokens"] > 0
    assert line["valid_rate"] == 7 / 8 or config.routing.student.writes == "reference"
    changed = [name for name, p in student.adapter.items() if not p.detach().cpu().equal(before[name])]
    assert changed
