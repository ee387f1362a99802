"""The measures before training: what the rollouts show, and that the loss's numbers are those of a step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from conftest import distill_config, make_student

from vigos_cli.analysis.readiness import (
    PROSE,
    gradable,
    loss_sums,
    measure_readiness,
    not_finite,
)
from vigos_cli.analysis.token_scores import SeenByLoss, TokenScore, score_tokens
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.training import step
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step
from vigos_cli.types import Kind, Sample


def line(row: int, draw: int = 0, **values: Any) -> dict[str, Any]:
    """A valid, finished, wrong rollout of ten tokens, with some values replaced."""
    text = "<description> A red cup. </description> <think> It is red. </think> \\boxed{red}"
    known = {"row": row, "draw": draw, "question": "What colour?", "reference": "blue", "options": []}
    known |= {"gradable": True, "text": text, "valid": True, "reason": "", "correct": False}
    return known | {"finished": True, "tokens": 10, "loss": None} | values


def sums(tokens: int, divergence: float = 0.0, **values: float) -> dict[str, float]:
    """The sums of one kind of token in one rollout."""
    return {
        "tokens": tokens,
        "divergence": divergence,
        "kl": divergence,
        **dict.fromkeys(("clipped", "silent", "lost", "differ"), 0.0),
        **values,
    }


def means(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: figure and figure["mean"] for name, figure in measure_readiness(lines).items()}


def test_the_answers_are_counted_with_n_and_an_interval():
    lines = [
        line(0, correct=True, reference="red"),
        line(1, valid=False, finished=False, tokens=30),
        line(2, valid=False),
        line(3, gradable=False, correct=True),
    ]
    found = measure_readiness(lines)
    assert means(lines) == {
        "valid": 0.5,
        "valid_finished": pytest.approx(2 / 3),
        "accuracy": pytest.approx(1 / 3),
        "tokens": 15,
        "cut_off": 0.25,
        "leakage": 0.25,
    }
    assert [figure and figure["n"] for figure in found.values()] == [4, 3, 3, 4, 4, 4]
    for figure in found.values():
        assert figure and figure["low"] < figure["mean"] < figure["high"]
    leakage = found["leakage"]
    assert leakage and leakage["chance"]["mean"] == 0.75


def test_rollouts_of_one_row_are_no_independent_evidence():
    """With the same answers, four rows with two equal rollouts each have a wider interval than eight rows."""
    paired = measure_readiness([line(i // 2, i % 2, valid=i < 4) for i in range(8)])["valid"]
    single = measure_readiness([line(i, valid=i < 4) for i in range(8)])["valid"]
    assert paired and single and paired["mean"] == single["mean"] and paired["n"] == single["n"] == 8
    assert paired["high"] - paired["low"] > 1.1 * (single["high"] - single["low"])


def test_nothing_is_measured_without_rollouts_or_teachers():
    assert set(measure_readiness([]).values()) == {None}
    assert not any(name in measure_readiness([line(0)]) for name in ("turn_kl", "no_gradient"))
    assert "turn_kl" not in measure_readiness([line(0, loss={})])  # teachers scored, but no token has one


def test_the_sums_of_the_loss_become_shares_of_tokens_and_means_by_kind():
    first = {
        "description": sums(8, 0.4),
        "reasoning": sums(2, 3.0, clipped=2, silent=1, lost=2.5, differ=1),
    }
    second = {"invalid": sums(10, 1.6, kl=6.0, clipped=1, silent=1, lost=1.0)}
    lines = [line(0, loss=first), line(1, loss=second)]
    found = measure_readiness(lines)
    loss = {name: value for name, value in means(lines).items() if name not in means([line(0)])}
    assert loss == {
        "divergence/description": pytest.approx(0.05),
        "divergence/reasoning": 1.5,
        "divergence/invalid": pytest.approx(0.16),
        "turn_kl": pytest.approx((3.4 + 6.0) / 2),
        "differ": 1 / 20,
        "clipped": 3 / 20,
        "no_gradient": 2 / 20,
        "lost_divergence": pytest.approx(3.5 / 5.0),
    }
    counts = {name: figure["n"] for name in loss if (figure := found[name])}
    by_kind = {"divergence/description": 8, "divergence/reasoning": 2, "divergence/invalid": 10}
    assert counts == by_kind | {"turn_kl": 2} | dict.fromkeys(
        ("differ", "clipped", "no_gradient", "lost_divergence"), 20
    )


def test_a_token_counts_once_for_each_teacher():
    one = SeenByLoss(0.5, 0.25, clipped=True, silent=True, differ=False)
    two = SeenByLoss(0.125, 2.0, clipped=True, silent=False, differ=True)
    scores = [TokenScore(-1.0, seen=(one, two)), TokenScore(-1.0), TokenScore(-1.0, seen=(two,))]
    assert loss_sums([Kind.ANSWER, Kind.END, Kind.REASONING], scores) == {
        "answer": sums(2, 0.625, kl=2.25, clipped=2, silent=1, lost=0.5, differ=1),
        "reasoning": sums(1, 0.125, kl=2.0, clipped=1, silent=0, lost=0.0, differ=1),
    }


def test_rollouts_with_a_divergence_that_is_no_number_are_counted():
    lines = [line(0, loss={"answer": sums(1, math.nan)}), line(1, loss={"answer": sums(1, math.inf)})]
    assert not_finite([*lines, line(2, loss={"answer": sums(1, 1.0)}), line(3)]) == 2


@pytest.mark.parametrize(
    ("reference", "options", "expected"),
    [
        ("4", (), True),
        (r"\frac{1}{2}", (), True),
        ("<answer>blue</answer>", (), True),
        ("word " * PROSE, (), True),
        ("word " * (PROSE + 1), (), False),
        ("B", ("word " * 30, "other " * 30), True),
        ("", (), False),
        ("<answer></answer>", (), False),
    ],
)
def test_a_reference_can_be_graded_if_it_is_an_option_or_short(reference, options, expected):
    assert gradable(Sample("a", "What?", reference, (), options=options)) == expected


# ---- the loss's own numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clipped", "silent", "overrides"),
    [
        (True, True, ("loss.clip=token", "loss.clip_value=0.001")),
        (True, False, ("loss.clip=entry", "loss.clip_value=1e-5", "routing=opsd_structured")),
        (True, False, ("loss=jsd", "loss.clip=scale", "loss.clip_value=1e-5", "loss.temperature=2")),
        (False, False, ("routing.supervise.description=[perception,fallback]",)),
    ],
    ids=["token", "entry", "scale", "two teachers"],
)
def test_the_loss_sees_what_a_step_of_training_reports(clipped, silent, overrides, monkeypatch):
    """The same rollouts, one of them invalid, in `train_step` and in `score_tokens`."""
    config = distill_config("trainer.batch=4", "rollout.max_new_tokens=60", *overrides)
    student, rows = make_student(), []
    whole = step.supervise_all

    def recorded(rollouts, prompter, run):
        item, rollout = rollouts[0]
        ids, ends = rollout.ids[:-4], rollout.ends[:-4]  # without its box, the reasoning included
        cut = replace(rollout, ids=ids, ends=ends, text=rollout.text[: ends[-1]], finished=False)
        rows.extend(whole([(item, cut), *rollouts[1:]], prompter, run))
        return rows

    monkeypatch.setattr(step, "supervise_all", recorded)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    batches = Batches(PriorWorld(size=64), prompter, config)
    reported = train_step(make_learner(student, config), batches, prompter, config)

    scores = score_tokens(
        make_student(), rows, TeacherWeights.at_start(config.routing), config, micro_batch=3
    )
    assert [row.segments.valid for row in rows] == [False, True, True, True]
    found = measure_readiness(
        [
            line(i, loss=loss_sums(row.segments.kinds, of_row))
            for i, (row, of_row) in enumerate(zip(rows, scores, strict=True))
        ]
    )
    for name in [name for name in reported if name.startswith("divergence/")]:
        figure = found.pop(name)
        assert figure and figure["mean"] == pytest.approx(reported[name], abs=1e-5, rel=1e-4)
    assert not any(name.startswith("divergence/") for name in found)
    for name, theirs in (("clipped", "clip_rate"), ("no_gradient", "zero_gradient_rate")):
        figure = found[name]
        assert figure and figure["mean"] == pytest.approx(reported[theirs], abs=0.02)  # a token at the limit
        assert figure["n"] == reported["supervised_tokens"]
    assert (reported["clip_rate"] > 0, reported["zero_gradient_rate"] > 0) == (clipped, silent)
