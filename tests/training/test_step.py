"""The gradient of a step depends only on the batch, and an unusable batch is counted or refused."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import distill_config, make_student
from PIL import Image

from vigos_cli.config.supervision_terms import trains
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.models import base_cache
from vigos_cli.supervision import loss_calls
from vigos_cli.supervision.batches import Batches
from vigos_cli.training.learner import make_learner
from vigos_cli.training.loop import train
from vigos_cli.training.step import train_step
from vigos_cli.utils.errors import UserError

SMALL = ("trainer.batch=6", "trainer.max_grad_norm=1e9", "rollout.max_new_tokens=60")


def one_step(*overrides: str, data=None, student=None):
    """The gradient and the report of the first step."""
    config = distill_config(*SMALL, *overrides)
    student = student or make_student(*overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    line = train_step(learner, Batches(data or PriorWorld(size=64), prompter, config), prompter, config)
    return {name: p.grad for name, p in student.adapter.items()}, line, learner


def largest_difference(a, b) -> float:
    scale = max(float(g.abs().max()) for g in a.values())
    return max(float((a[name] - b[name]).abs().max()) for name in a) / scale


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["term_tokens", "rollout"])
def test_the_gradient_does_not_depend_on_the_micro_batch(reduction):
    whole, line, _ = one_step("trainer.micro_batch=6", f"loss.reduction={reduction}")
    assert line["supervised_tokens"] > 0
    for size in (1, 2, 4):
        split, _, _ = one_step(f"trainer.micro_batch={size}", f"loss.reduction={reduction}")
        assert largest_difference(whole, split) < 1e-5


@pytest.mark.slow
def test_checkpointed_activations_give_the_same_gradient():
    plain, _, _ = one_step()
    spared, _, _ = one_step("trainer.gradient_checkpointing=true")
    assert largest_difference(plain, spared) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", [(), ("adapter=qlora",)], ids=["float32", "nf4"])
def test_a_reused_base_gives_the_same_step_as_a_new_one(kind):
    new, line, learner = one_step(*kind)
    used = learner.student.base
    config = distill_config(*kind)
    one_step(*kind, "trainer.gradient_checkpointing=true", "adapter.r=4", student=learner.student)
    base_cache.keep(learner.student.release(), learner.student.processor, config.model, config.adapter)
    again, same_line, learner = one_step(*kind)
    assert learner.student.base is used and not used.is_gradient_checkpointing
    assert new.keys() == again.keys() and all(torch.equal(new[name], again[name]) for name in new)
    assert line["loss"] == same_line["loss"]

    base_cache.keep(learner.student.release(), learner.student.processor, config.model, config.adapter)
    assert base_cache.take(distill_config(*kind, "model.dtype=bfloat16").model, config.adapter) is None
    assert base_cache.take(config.model, config.adapter) is None  # the cache gives a base only once


@pytest.mark.slow
def test_a_step_changes_only_the_adapter():
    student = make_student()
    before, adapter = student.frozen_hash(), student.adapter_state()
    one_step(student=student)
    assert student.frozen_hash() == before
    assert any(not torch.equal(adapter[name], p) for name, p in student.adapter.items())
    with torch.no_grad():  # check that the hash depends on the weights
        next(p for n, p in student.net.named_parameters() if n not in student.adapter).view(-1)[0] += 1
    assert student.frozen_hash() != before


@pytest.mark.slow
def test_training_works_with_4_bit_weights_in_the_language_model():
    student = make_student("adapter=qlora")
    assert student.quantised_modules == 4 * 7, "4 layers with 7 modules each"
    before = student.frozen_hash()
    gradient, line, _ = one_step("adapter=qlora", "trainer.batch=2", student=student)
    assert line["loss"] > 0 and any(float(g.abs().max()) > 0 for g in gradient.values())
    assert student.frozen_hash() == before


def test_a_teacher_with_the_students_weights_and_prompt_gives_no_gradient():
    overrides = ("routing=opsd_structured", "routing.teachers.privileged.told=[question]")
    gradient, line, _ = one_step(*overrides)
    assert line["divergence/description"] < 1e-9
    assert max(float(g.abs().max()) for g in gradient.values()) < 1e-6


@pytest.mark.slow
def test_each_routing_runs_and_reports_its_own_terms():
    expected = {
        "vigos": {"perception", "reasoning"},
        "vigos_code": {"perception", "reasoning"},
        "opsd": {"privileged"},
        "opsd_structured": {"privileged"},
        "no_perception": {"reasoning"},
        "no_reasoning": {"perception"},
        "no_reference": {"perception", "reasoning"},
        "other_answer": {"perception", "reasoning"},
        "noise_image": {"perception", "reasoning"},
        "sft": {"tokens"},
    }
    student = make_student()
    for routing, teachers in expected.items():
        _, line, _ = one_step(f"routing={routing}", student=student)
        found = {name.removeprefix("loss/") for name in line if name.startswith("loss/")}
        assert found - {"fallback"} == teachers, routing
    assert not trains(distill_config("routing=two_pass").routing)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["base", "ema", "live"])
def test_teachers_use_the_configured_weights(weights):
    """At the first step the adapter is zero, so all three equal the base; after one step they differ."""
    config = distill_config(*SMALL, f"teacher={weights}", "teacher.ema_rate=0.5", "trainer.lr=1e-2")
    student = make_student()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner, data = make_learner(student, config), PriorWorld(size=64)
    train_step(learner, Batches(data, prompter, config), prompter, config)
    if weights == "ema":
        start = make_student().adapter
        for name, p in student.adapter.items():
            torch.testing.assert_close(learner.teachers.kept["ema:0.5"][name], (start[name] + p) / 2)
    live = student.adapter_state()
    with learner.teachers.model(student, "reasoning"):
        used = {name: p.detach().clone() for name, p in student.adapter.items()}
    assert all(torch.equal(live[name], p) for name, p in student.adapter.items()), "weights not restored"
    same = all(torch.equal(live[name], used[name]) for name in live)
    assert same == (weights != "ema")


def test_rollouts_at_the_length_limit_are_invalid_and_use_the_fallback_teacher():
    _, line, learner = one_step("rollout.max_new_tokens=3")
    assert line["valid_rate"] == 0 and line["fallback_rate"] == 1
    assert {name for name in line if name.startswith("loss/")} == {"loss/fallback"}
    assert line["supervised_tokens"] == 6 * 3
    assert learner.counts["invalid_not_finished"] == learner.counts["length_limit"] == 6


def test_a_batch_without_supervision_changes_nothing_and_is_counted():
    student = make_student()
    before = student.adapter_state()
    _, line, learner = one_step("rollout.max_new_tokens=3", "routing.supervise.invalid=none", student=student)
    assert learner.counts["step_without_supervision"] == 1
    assert line["supervised_tokens"] == 0
    assert all(torch.equal(before[name], p) for name, p in student.adapter.items())


@pytest.mark.slow
def test_a_run_ends_after_repeated_losses_that_are_not_finite(monkeypatch):
    def broken(hidden, *rest, **options):
        loss, stats = original(hidden, *rest, **options)
        return loss * math.nan, stats

    original = loss_calls.fused_loss
    monkeypatch.setattr(loss_calls, "fused_loss", broken)
    student = make_student()
    before = student.adapter_state()
    _, line, learner = one_step(student=student)
    assert line["grad_norm"] is None and learner.counts["step_not_finite"] == 1
    assert all(torch.equal(before[name], p) for name, p in student.adapter.items())
    config = distill_config(*SMALL)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    with pytest.raises(UserError, match="no finite gradient"):
        train(
            learner,
            Batches(PriorWorld(size=64), prompter, config),
            prompter,
            config,
            log=lambda line: None,
            evaluate=dict,
            before={},
            lines=(),
        )


@pytest.mark.slow
def test_bad_rows_are_left_out_and_counted_by_rule():
    good = PriorWorld(size=6)
    rows = [good[i] for i in range(6)]
    rows[0] = replace(rows[0], answer=" ")
    rows[1] = replace(rows[1], images=())
    rows[2] = replace(rows[2], images=(Image.new("RGB", (4000, 10)),))
    rows[3] = replace(rows[3], images=(Image.new("L", (1, 1)),))
    rows[4] = replace(rows[4], images=(Image.new("RGB", (9_000, 9_000)),))
    _, line, learner = one_step("model.max_prompt=200", data=rows)
    expected = {"missing_answer": 1, "missing_image": 1, "image_strip": 1, "image_enlarged": 1}
    assert {k: learner.counts[k] for k in expected} == expected
    assert learner.counts["image_reduced"] == 1
    assert line["rollouts"] == 3
    _, line, learner = one_step("model.max_prompt=20", data=rows)
    assert line["rollouts"] == 0 and learner.counts["prompt_too_long"] == 3
