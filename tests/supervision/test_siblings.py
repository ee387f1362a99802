"""The rollouts of one prompt as siblings: who is right, who agrees, and who is supervised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vigos_cli.config.schema import (
    RoutingConfig,
    StudentContext,
    SuperviseConfig,
    SupervisedRollouts,
    TeacherContext,
)
from vigos_cli.data.images import BadRow
from vigos_cli.supervision.siblings import grouped, in_order, majority
from vigos_cli.types import Prompt, Rollout, Sample

SAMPLE = Sample("s", "Which colour?", "red", (object(),))  # type: ignore[arg-type]
ITEM: Any = SimpleNamespace(key="0", sample=SAMPLE, reference="red")


def rollout(answer: str | None, thought: str = "so") -> tuple[Any, Rollout]:
    text = f"<think>{thought}</think> \\boxed{{{answer}}}" if answer is not None else "no format"
    prompt = Prompt("student", (1,), ())
    ids = tuple(range(len(text)))
    return ITEM, Rollout("0", 0, prompt, ids, text, tuple(range(1, len(text) + 1)), True)


def routing(which: str, choice: Any = "all", choose: str = "first") -> RoutingConfig:
    told = ["question", {"sibling": which, "choose": choose}]
    return RoutingConfig(
        student=StudentContext(format="think"),
        teachers={"hinted": TeacherContext(told=told, missing="skip")},
        supervise=SuperviseConfig(all="hinted"),
        rollouts=SupervisedRollouts(choice),
    )


def test_a_rollout_is_never_its_own_sibling():
    rows = [rollout("red", "one"), rollout("blue"), rollout(None), rollout("red", "two")]
    groups = grouped(rows, routing("right"))
    assert "two" in groups[0].sibling("right") and "one" in groups[3].sibling("right")
    assert "one" in groups[1].sibling("right") and "one" in groups[2].sibling("right")
    assert "blue" in groups[0].sibling("wrong")
    with pytest.raises(BadRow, match="no_wrong_sibling"):
        groups[1].sibling("wrong")


def test_rollouts_without_a_sibling_can_be_left_out():
    rows = [rollout("red"), rollout("blue"), rollout(None)]
    assert [g.supervised for g in grouped(rows, routing("right"))] == [True, True, True]
    chosen = grouped(rows, routing("right", "with_sibling"))
    assert [g.supervised for g in chosen] == [False, True, True]


def test_the_majority_needs_half_of_the_rollouts():
    rows = [rollout("red"), rollout("blue"), rollout("red"), rollout(None)]
    groups = grouped(rows, routing("majority"))
    assert [bool(g.others["majority"]) for g in groups] == [True, True, True, True]
    few = grouped([*rows, rollout("green")], routing("majority"))
    assert not any(g.others["majority"] for g in few)


def test_only_disagreeing_rollouts_with_an_answer_are_supervised():
    rows = [rollout("red"), rollout("blue", "a"), rollout("red"), rollout(None), rollout("green", "long" * 9)]
    rows.append(rollout("red"))

    def kept(choice: Any) -> list[int]:
        return [i for i, g in enumerate(grouped(rows, routing("majority", choice))) if g.supervised]

    assert kept({"disagreeing": 1}) == [1]
    assert kept({"disagreeing": 1, "choose": "longest"}) == [4]
    assert kept({"disagreeing": 2}) == [1, 4]
    split = [rollout("red"), rollout("blue"), rollout("green")]
    assert not any(g.supervised for g in grouped(split, routing("majority", {"disagreeing": 1})))


def test_the_sibling_can_be_the_shortest_or_the_longest():
    rows = [rollout("blue"), rollout("red", "medium"), rollout("red", "a"), rollout("red", "very long")]
    own = grouped(rows, routing("right"))[0]
    for choose, thought in (("first", "medium"), ("shortest", "a"), ("longest", "very long")):
        assert f"<think>{thought}</think>" in own.sibling("right", choose)
    assert in_order(["aa", "b", "cc"], "longest") == [0, 2, 1]


def test_answers_agree_by_the_rules_of_the_graders():
    assert majority(["1/2", "0.5", "2", "", "0.50"]) == (0, 1, 4)
    assert majority(["a", "b"]) == (0,)  # a tie goes to the first
    assert majority(["", ""]) == ()
