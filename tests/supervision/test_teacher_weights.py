"""Each teacher scores with its own weights: initial, live, an average, a copy, or another checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import distill_config, make_student, with_effect
from twins import save_twin

from vigos_cli.config.schema import RoutingConfig, SuperviseConfig, TeacherConfig, TeacherContext
from vigos_cli.supervision.teacher_weights import TeacherWeights, load_other_checkpoints, weight_keys
from vigos_cli.utils.errors import UserError


def routing(**weights: Any) -> RoutingConfig:
    """One teacher for each name, all of which supervise."""
    teachers = {name: TeacherContext(told=["question"], weights=value) for name, value in weights.items()}
    return RoutingConfig(teachers=teachers, supervise=SuperviseConfig(all=list(weights)))


def adapter_of(student: Any) -> torch.Tensor:
    return torch.cat([p.data.flatten() for p in student.adapter.values()])


def test_a_teacher_without_weights_has_those_of_the_teacher_group():
    one = routing(a=None, b="live", c={"ema": 0.05}, d={"every": 10})
    assert weight_keys(one, TeacherConfig()) == {
        "a": "initial",
        "b": "live",
        "c": "ema:0.05",
        "d": "every:10",
    }
    assert weight_keys(one, TeacherConfig(weights="ema", ema_rate=0.2))["a"] == "ema:0.2"


def test_averages_and_copies_follow_the_student():
    student = make_student()
    start = adapter_of(student).clone()
    weights = TeacherWeights.of_run(
        student, routing(slow={"ema": 0.25}, copy={"every": 2}, now="live", first="initial"), TeacherConfig()
    )
    seen = {}
    for step in (1, 2, 3):
        for p in student.adapter.values():
            p.data += 1
        weights.follow(student, step)
        for name in weights.of:
            with weights.model(student, name) as model:
                assert model is student
                seen[name, step] = adapter_of(student) - start
    ones = torch.ones_like(start)
    for step, average, copied in ((1, 0.25, 0), (2, 0.6875, 2), (3, 1.265625, 2)):
        torch.testing.assert_close(seen["slow", step], average * ones)
        torch.testing.assert_close(seen["copy", step], copied * ones)
        torch.testing.assert_close(seen["now", step], step * ones)
    torch.testing.assert_close(adapter_of(student) - start, 3 * ones)


def test_two_teachers_with_the_same_rate_share_one_average():
    student = make_student()
    weights = TeacherWeights.of_run(student, routing(a={"ema": 0.05}, b={"ema": 0.05}), TeacherConfig())
    assert list(weights.kept) == ["ema:0.05"]
    assert {name.split("/")[0] for name in weights.state()} == {"ema:0.05"}


@pytest.mark.slow
def test_another_checkpoint_scores_with_its_own_weights(tmp_path: Path):
    student = make_student()
    config = distill_config()
    student.base.save_pretrained(tmp_path / "other")
    student.processor.save_pretrained(tmp_path / "other")
    weights = TeacherWeights.of_run(student, routing(a=str(tmp_path / "other")), TeacherConfig())
    load_other_checkpoints(weights, student, config)
    with weights.model(student, "a") as model:
        assert model is not student
    (head_VH,) = weights.heads(["a"]).values()
    assert torch.equal(head_VH, student.head_VH) and head_VH is not student.head_VH


@pytest.mark.slow
def test_a_checkpoint_with_another_tokenizer_is_refused(tmp_path: Path):
    student = make_student()
    weights = TeacherWeights.of_run(
        student, routing(big=str(save_twin("qwen2vl", tmp_path))), TeacherConfig()
    )
    with pytest.raises(UserError, match="of big has another tokenizer") as told:
        load_other_checkpoints(weights, student, distill_config())
    assert "\n" not in str(told.value)


def test_the_adapter_stays_off_after_a_block_inside_another():
    student = with_effect(make_student())
    ids = [[40, 41, 42]]

    def read() -> Any:
        with torch.no_grad():
            return student.hidden({"input_ids": torch.tensor(ids), "attention_mask": torch.ones(1, 3)})

    live, trained = read(), [name for name, p in student.net.named_parameters() if p.requires_grad]
    with student.weights("initial"):
        off = read()
        with student.weights("initial"):
            assert read().equal(off)
        assert read().equal(off) and not off.equal(live)
    assert read().equal(live)
    assert [name for name, p in student.net.named_parameters() if p.requires_grad] == trained
