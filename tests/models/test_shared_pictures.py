"""Sampler, student and teachers that look at the same pictures share one pass of the vision tower."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest
import torch
from conftest import distill_config, make_student
from twins import FAMILIES, picture, save_twin

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.models import shared_pictures
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
        lambda tower, args, kwargs: seen.append(len(args[0] if args else next(iter(kwargs.values())))),
        with_kwargs=True,
    )
    return seen


def step(student: Any, *overrides: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config = distill_config(*SMALL, *overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    line = train_step(learner, Batches(PriorWorld(size=32), prompter, config), prompter, config)
    return line, {name: p.grad for name, p in student.adapter.items()}


def test_a_step_encodes_its_pictures_once_for_the_sampler_both_teachers_and_the_student():
    student = make_student()
    seen = passes(student)
    line, _ = step(student)
    assert line["valid_rate"] == 1 and {"loss/perception", "loss/reasoning"} <= line.keys()
    assert len(seen) == 1


@pytest.mark.slow
def test_the_pictures_of_each_step_are_new():
    student = make_student()
    seen = passes(student)
    step(student)
    gc.collect()
    assert not len(student.pictures._known), "nothing is kept once the prompts are gone"
    step(student)
    assert len(seen) == 2


@pytest.mark.slow
def test_loss_and_gradient_are_those_of_a_pass_for_each(monkeypatch):
    shared_line, shared = step(make_student(), "trainer.micro_batch=2")
    monkeypatch.setattr(SharedPictures, "_keep", lambda self, shown, output: None)
    student = make_student()
    seen = passes(student)
    apart_line, apart = step(student, "trainer.micro_batch=2")
    assert len(seen) == 1 + 2 * 3
    for name in ("loss/perception", "loss/reasoning"):
        assert shared_line[name] == pytest.approx(apart_line[name], rel=1e-6)
    assert all(torch.allclose(shared[name], apart[name], rtol=1e-5, atol=1e-6) for name in shared)


@pytest.mark.slow
def test_what_does_not_fit_is_encoded_again(monkeypatch):
    monkeypatch.setattr(shared_pictures, "ROOM", 3 * 9 * 128 * 4)  # three pictures of 9 tokens in float32
    student = make_student()
    seen = passes(student)
    step(student)
    assert 1 < len(seen) < 1 + 4 * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_sees_the_same_with_parts_of_earlier_passes(name, tmp_path):
    path = f"model.path={save_twin(name, tmp_path)}"
    student, config = make_student(path), distill_config(path)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    first, second, third = (
        prompter.render(STUDENT, prompter.encode(pictures), question="What?")
        for pictures in ([picture(56, 56, 1)], [picture(84, 56, 2), picture(56, 56, 3)], [picture(56, 84, 4)])
    )

    def read(*prompts: Any) -> list[torch.Tensor]:
        with torch.no_grad(), student.seeing(prompts):
            states_BTH = student.hidden(student.batch([prompt.ids for prompt in prompts], prompts))
        return [row[: len(prompt.ids)] for row, prompt in zip(states_BTH, prompts, strict=True)]

    alone = []
    for prompt in (first, second, third):
        student.pictures.forget()
        alone += read(prompt)
    student.pictures.forget()
    seen = passes(student)
    read(first, second)
    read(third)
    assert len(seen) == 2
    again = read(third, first, second)
    assert len(seen) == 2, "all three are known"
    for states_TH, at in zip(again, (2, 0, 1), strict=True):
        assert torch.allclose(states_TH, alone[at], atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["noise_image", "vcsd"])
def test_a_teacher_that_looks_at_another_picture_gets_its_own_pass(routing):
    student = make_student()
    seen = passes(student)
    step(student, f"routing={routing}")
    assert len(seen) == 1 + 4, "one pass for the rollouts, whose pictures the student knows, and one a row"


@pytest.mark.slow
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
    student.pictures.forget()
    return student


@pytest.mark.slow
def test_a_trained_tower_is_not_shared():
    student = make_student("adapter.vision=true")
    assert student.pictures is None
    seen = passes(student)
    step(student, "adapter.vision=true")
    assert Counter(seen) and len(seen) == 1 + 4 * 3
