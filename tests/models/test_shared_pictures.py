"""Student and teachers that look at the same pictures share one pass of the vision tower."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from conftest import distill_config, make_student

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.shared_pictures import SharedPictures
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.contexts import supervise_all
from vigos_cli.supervision.hidden_states import hidden_states
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step

SMALL = ("trainer.batch=4", "trainer.micro_batch=1", "rollout.max_new_tokens=60")


def passes(student: Any) -> list[int]:
    """The number of patches of each pass of the vision tower from now on."""
    seen: list[int] = []
    student.base.get_encoder(modality="image").register_forward_pre_hook(
        lambda tower, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])),
        with_kwargs=True,
    )
    return seen


def step(student: Any, *overrides: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config = distill_config(*SMALL, *overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    line = train_step(learner, Batches(PriorWorld(size=32), prompter, config), prompter, config)
    return line, {name: p.grad for name, p in student.adapter.items()}


def test_a_row_is_encoded_once_for_both_teachers_and_the_student():
    student = make_student()
    seen = passes(student)
    line, _ = step(student)
    assert line["valid_rate"] == 1 and {"loss/perception", "loss/reasoning"} <= line.keys()
    assert len(seen) == 1 + 4, "one pass for all rollouts, and one for each row"


def test_the_gradient_has_the_same_bits_as_with_a_pass_for_each(monkeypatch):
    _, shared = step(make_student(), "trainer.micro_batch=2")
    monkeypatch.setattr(SharedPictures, "_same", lambda self, shown: False)
    student = make_student()
    seen = passes(student)
    _, apart = step(student, "trainer.micro_batch=2")
    assert len(seen) == 1 + 2 * 3
    assert all(shared[name].equal(apart[name]) for name in shared)


@pytest.mark.parametrize("routing", ["noise_image", "vcsd"])
def test_a_teacher_that_looks_at_another_picture_gets_its_own_pass(routing):
    student = make_student()
    seen = passes(student)
    step(student, f"routing={routing}")
    assert len(seen) == 1 + 4 * 2


def test_other_rows_of_the_same_pictures_are_not_mistaken():
    student, config = make_student(), distill_config(*SMALL)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    prepared, _ = Batches(PriorWorld(size=32), prompter, config).at(0)
    rows = supervise_all(sample_rollouts(student, prepared, prompter, config, 0), prompter, config)
    with torch.no_grad():
        for order in ([0, 1], [1, 0], [1], [0, 1, 2], [0, 1]):
            chosen = [rows[i] for i in order]
            alone = [hidden_states(make_fresh(student), STUDENT, [row])[0] for row in chosen]
            together = hidden_states(student, STUDENT, chosen)
            for states_TH, row in zip(alone, together, strict=True):
                assert torch.allclose(states_TH, row[: len(states_TH)], atol=1e-4)


def make_fresh(student: Any) -> Any:
    """The student without a memory of pictures."""
    student.pictures._shown = []
    return student


def test_a_trained_tower_is_not_shared():
    student = make_student("adapter.vision=true")
    assert student.pictures is None
    seen = passes(student)
    step(student, "adapter.vision=true")
    assert Counter(seen) and len(seen) == 1 + 4 * 3
