"""Teachers with the same weights read their pictures once; states, loss and gradient stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import distill_config, make_student, with_effect
from twins import FAMILIES, save_twin
from written_rollouts import prepared, write

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.student import Student
from vigos_cli.supervision import hidden_states, shared_prefix
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.hidden_states import states_of_teachers
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step

TEXT = " A red cube. </description> <think> The cube is red. </think> \\boxed{red}"
LONG = " A red cube on the left. </description> <think> It is a cube, and it is red. </think> \\boxed{red}"
PLAIN = [family for family in FAMILIES if family != "qwen35"]  # has linear attention


def supervised(student: Student, *overrides: str, draws: int = 2) -> tuple[list[Supervised], TeacherWeights]:
    """Two samples with a long and a short rollout, one of them invalid, and the weights of their teachers."""
    config = distill_config(*overrides, f"rollout.n={draws}", f"trainer.batch={2 * draws}")
    made, items = prepared(student, config, (0, 1))
    texts = [(TEXT, LONG), ("no format at all", TEXT)]
    rollouts = [
        (item, write(student, item, text, draw))
        for item, of_item in zip(items, texts, strict=True)
        for draw, text in enumerate(of_item[:draws])
    ]
    return supervise_all(rollouts, made, config), TeacherWeights.of_run(
        student, config.routing, config.teacher
    )


def read(student: Student, rows: list[Supervised], weights: TeacherWeights) -> dict[str, torch.Tensor]:
    """The states of every teacher at all of its tokens."""
    names = sorted({name for row in rows for term in row.terms for name in row.teachers[term.rule]})
    tokens = {name: [(b, i) for b, row in enumerate(rows) for i in row.tokens_of(name)] for name in names}
    return states_of_teachers(student, rows, tokens, weights)


def share(monkeypatch: pytest.MonkeyPatch, least: float) -> list[int]:
    """Set the least share, and note how many prefixes each pass reads."""
    seen: list[int] = []
    whole = shared_prefix.read_prompts
    monkeypatch.setattr(shared_prefix, "LEAST", least)
    monkeypatch.setattr(
        shared_prefix, "read_prompts", lambda s, prompts: seen.append(len(prompts)) or whole(s, prompts)
    )
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_every_family_has_the_same_states(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = f"model.path={save_twin(name, tmp_path)}"
    student = make_student(path)
    rows, weights = supervised(student, path)
    apart = read(student, rows, weights)
    seen = share(monkeypatch, -1)
    together = read(student, rows, weights)
    assert seen == [2], "the prefixes of two samples, for three teachers and two draws"
    assert len(together) == 3 and list(together) == list(apart)
    for teacher, states_NH in together.items():
        assert torch.allclose(states_NH, apart[teacher], atol=2e-4, rtol=1e-4), teacher


@pytest.mark.slow
def test_a_family_with_linear_attention_reads_whole_contexts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = f"model.path={save_twin('qwen35', tmp_path)}"
    student = make_student(path)
    rows, weights = supervised(student, path)
    seen = share(monkeypatch, -1)
    read(student, rows, weights)
    assert not seen


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["opsd_structured", "noise_image", "purified_opsd", "vcsd", "sdft"])
def test_every_routing_has_the_same_states(routing: str, monkeypatch: pytest.MonkeyPatch):
    student = make_student()
    rows, weights = supervised(student, f"routing={routing}")
    apart = read(student, rows, weights)
    share(monkeypatch, -1)
    together = read(student, rows, weights)
    for teacher, states_NH in together.items():
        assert torch.allclose(states_NH, apart[teacher], atol=1e-5), teacher


@pytest.mark.slow
def test_another_picture_has_its_own_prefix(monkeypatch: pytest.MonkeyPatch):
    student = make_student()
    rows, weights = supervised(student, "routing=noise_image", draws=1)
    seen = share(monkeypatch, -1)
    read(student, rows, weights)
    assert seen == [3], "the valid row has a picture and noise, the invalid one the picture"


def test_it_is_used_only_if_it_saves_enough(monkeypatch: pytest.MonkeyPatch):
    student = make_student()
    rows, weights = supervised(student)
    contexts = [row.contexts[name] for row in rows for name in row.contexts if name != "student"]
    saved = (len(contexts) - 2) * (contexts[0].prompt.ids.index(5) + contexts[0].prompt.ids.count(5))
    share_saved = saved / sum(len(context.ids) for context in contexts)
    seen = share(monkeypatch, share_saved + 1e-6)
    read(student, rows, weights)
    assert not seen
    seen = share(monkeypatch, share_saved - 1e-6)
    read(student, rows, weights)
    assert seen == [2]


def test_teachers_with_other_weights_do_not_share(monkeypatch: pytest.MonkeyPatch):
    student = with_effect(make_student())
    live = "routing.teachers.perception.weights=live"
    rows, weights = supervised(student, live)
    apart = read(student, rows, weights)
    seen = share(monkeypatch, -1)
    together = read(student, rows, weights)
    assert seen == [2, 2], "once for perception, and once for the two others"
    assert all(torch.allclose(together[name], apart[name], atol=1e-5) for name in apart)


@pytest.mark.slow
def test_loss_and_gradient_of_a_step_are_the_same(monkeypatch: pytest.MonkeyPatch):
    small = ("trainer.batch=4", "rollout.n=2", "trainer.micro_batch=3", "rollout.max_new_tokens=60")

    def step() -> tuple[float, dict[str, Any]]:
        student, config = make_student(), distill_config(*small, "trainer.max_grad_norm=1e9")
        prompter = Prompter(student.processor, config.prompt, config.routing)
        learner = make_learner(student, config)
        line = train_step(learner, Batches(PriorWorld(size=32), prompter, config), prompter, config)
        return line["loss"], {name: p.grad for name, p in student.adapter.items()}

    monkeypatch.setattr(shared_prefix, "LEAST", 2)
    loss, apart = step()
    seen = share(monkeypatch, -1)
    same, together = step()
    scale = max(float(grad.abs().max()) for grad in apart.values())
    assert seen and scale > 0 and same == pytest.approx(loss, rel=1e-6)
    assert max(float((apart[name] - together[name]).abs().max()) for name in apart) < 1e-5 * scale


def test_a_teacher_alone_reads_as_before(monkeypatch: pytest.MonkeyPatch):
    student, called = make_student(), []
    rows, weights = supervised(student, "routing=opsd_structured", draws=1)
    whole = hidden_states.teacher_states
    monkeypatch.setattr(hidden_states, "teacher_states", lambda *a: called.append(a[1]) or whole(*a))
    read(student, rows, weights)
    assert called
