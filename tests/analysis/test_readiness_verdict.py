"""The verdict before training: one test for each thing that it tells the user to change."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from test_readiness import line, sums

from vigos_cli.analysis.readiness_verdict import NO_GRADIENT, readiness_report
from vigos_cli.config.compose import job
from vigos_cli.training.clipping import HIGH

Lines = list[dict[str, Any]]
ROWS = 100


@lru_cache
def rollout_config(*overrides: str) -> Any:
    return job("rollout", ["out=unused", "rollout.max_new_tokens=64", *overrides])


def report(lines: Lines, *overrides: str) -> dict[str, Any]:
    return readiness_report(lines, rollout_config(*overrides))


def rollouts(rows: int = ROWS, /, **values: Callable[[int], Any]) -> Lines:
    """Rollouts that training can start from; `values` replaces fields by functions of the row."""
    usual: dict[str, Callable[[int], Any]] = {
        "correct": lambda i: i % 2 == 0,
        "loss": lambda i: {"reasoning": sums(20, 1.0 + i % 3, silent=2 + i % 2, lost=0.5)},
    }
    return [line(i, **{name: value(i) for name, value in (usual | values).items()}) for i in range(rows)]


@pytest.mark.slow
def test_training_can_start():
    found = report(rollouts())
    assert (found["verdict"], found["line"]) == ("start", "training can start")
    assert found["changes"] == found["uncertain"] == []


def described(states: Callable[[int], bool]) -> dict[str, Callable[[int], Any]]:
    """Descriptions of which some state the answer; every row has another answer."""
    return {
        "reference": lambda i: f"cup {i}",
        "text": lambda i: f"<description> A cup {i if states(i) else 'x'}. </description>",
    }


CUT = {"finished": lambda i: i % 10 >= 4, "valid": lambda i: i % 10 >= 4}
CASES: dict[str, tuple[dict[str, Callable[[int], Any]], str, str, str]] = {
    "cut off": (CUT, "rollout.max_new_tokens", "cut_off", "0.40 of the answers are cut off: set 128"),
    "broken format": (
        {"valid": lambda i: i % 10 == 0, "reason": lambda i: "" if i % 10 == 0 else "no_box"},
        *("prompt", "valid_finished"),
        "only 0.10 of the finished answers follow the format, most frequent fault: no_box",
    ),
    "all right": ({"correct": lambda i: True}, "data", "accuracy", "1.00 of the answers are right already"),
    "all wrong": ({"correct": lambda i: False}, "data", "accuracy", "check the references"),
    "the same": (
        {"loss": lambda i: {"reasoning": sums(20, 0.001 * (1 + i % 2))}},
        *("data", "turn_kl", "differ from the student by 0.0015 nats in a whole answer"),
    ),
    "most tokens clipped": (
        {"loss": lambda i: {"reasoning": sums(20, 3.0 + i % 2, silent=12 + i % 2, lost=1.0)}},
        *("clip", "no_gradient", "0.62 of the supervised tokens get no gradient: loss.clip=scale"),
    ),
    "most divergence clipped": (
        {"loss": lambda i: {"reasoning": sums(20, 3.0 + i % 2, silent=1, lost=2.96 + i % 2)}},
        *("clip", "lost_divergence", "the tokens without a gradient have 0.989 of the divergence"),
    ),
    "no number": (
        {"loss": lambda i: {"reasoning": sums(20, math.nan if i == 3 else 1.0)}},
        *("model.dtype", "turn_kl", "the divergence of 1 rollouts is not a finite number"),
    ),
    "leakage": (
        described(lambda i: i % 10 > 0),
        *("prompt", "leakage", "0.90 of the descriptions state the answer, and 0.00 that of another"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_names_what_to_change(case):
    values, what, measure, why = CASES[case]
    found = report(rollouts(**values))
    assert [(c["what"], c["measure"]) for c in found["changes"]] == [(what, measure)]
    assert why in found["changes"][0]["why"]
    assert found["verdict"] == "change"
    assert found["line"].startswith(f"change before training: {what} (") and why in found["line"]
    assert found["uncertain"] == []


NEAR = {  # just on the good side of each limit
    "cut off": {"finished": lambda i: i % 5 > 0, "valid": lambda i: i % 5 > 0},
    "format": {"valid": lambda i: i % 2 == 0, "reason": lambda i: "no_box"},
    "right": {"correct": lambda i: i >= 5},
    "wrong": {"correct": lambda i: i < 5},
    "KL": {"loss": lambda i: {"reasoning": sums(20, 0.02 + i % 2 / 1000)}},
    "clipped tokens": {"loss": lambda i: {"reasoning": sums(20, 3.0, silent=10, lost=1.0)}},
    "clipped divergence": {"loss": lambda i: {"reasoning": sums(20, 3.0, silent=1, lost=2.84 + i % 2 / 100)}},
    "leakage": described(lambda i: i % 5 > 0),
}


@pytest.mark.parametrize("case", NEAR)
def test_nothing_is_to_be_changed_on_the_good_side_of_a_limit(case):
    found = report(rollouts(**NEAR[case]))
    assert (found["verdict"], found["changes"]) == ("start", [])


def test_a_description_may_name_what_is_asked_for_if_it_names_other_answers_too():
    text = "<description> A red cup and a blue cup. </description>"
    found = report(rollouts(reference=lambda i: ("red", "blue")[i % 2], text=lambda i: text))
    leakage = found["measures"]["leakage"]
    assert (leakage["mean"], leakage["chance"]["mean"]) == (1.0, 1.0) and found["verdict"] == "start"


def test_several_changes_stand_in_one_line_with_the_most_basic_first():
    clipped = {"loss": lambda i: {"invalid": sums(20, 3.0, silent=20, lost=3.0)}}
    found = report(rollouts(**CUT, **clipped, correct=lambda i: False))
    assert [change["what"] for change in found["changes"]] == ["rollout.max_new_tokens", "clip"]
    assert found["line"].index("rollout.max_new_tokens (") < found["line"].index("); clip (")
    assert "\n" not in found["line"]


def test_wrong_answers_say_nothing_about_the_data_while_the_format_is_broken():
    broken = {"valid": lambda i: False, "correct": lambda i: False, "reason": lambda i: "no_think"}
    found = report(rollouts(32, **broken))
    assert [change["what"] for change in found["changes"]] == ["prompt"] and not found["uncertain"]
    assert report(rollouts(32, correct=lambda i: False))["uncertain"] == ["accuracy"]


def test_few_rows_leave_the_verdict_uncertain():
    few = rollouts(6)
    found = report(few)
    sentence = "; 6 rows are too few to be sure of the share cut off"
    assert found["uncertain"] == ["cut_off"]
    assert found["line"] == f"training can start{sentence}: set limit=32"
    assert report(rollouts(10), "limit=10")["line"].endswith(": set limit=40")
    assert report(few, "limit=32")["line"].endswith(sentence)  # the data have no more rows
    assert report(few, "rollouts=runs/a")["line"].endswith(sentence)
    one = report(rollouts(1))  # one row: the KL has no interval
    assert one["measures"]["turn_kl"]["low"] is None and "turn_kl" in one["uncertain"]


def test_without_teachers_the_verdict_is_about_the_rollouts_only():
    lines = rollouts(loss=lambda i: None)
    found = report(lines, "rollout.teachers=false")
    assert found["verdict"] == "start" and "rollout.teachers=true also checks the loss" in found["line"]
    assert found["loss"] is None and "turn_kl" not in found["measures"]
    assert report(rollouts(**CUT), "rollout.teachers=false")["verdict"] == "change"


def test_there_is_no_verdict_without_rollouts():
    found = report([])
    assert (found["verdict"], found["line"]) == ("unknown", "no row of the data could be used")


@pytest.mark.slow
def test_the_divergences_and_the_clip_are_named():
    tiny = "divergence: forward_kl; on invalid rollouts: reverse_kl; no clip"
    assert report(rollouts())["loss"] == tiny
    assert report(rollouts(), "loss.clip=token")["loss"].endswith("; loss.clip=token at 0.05 nats")
    own = "divergence: forward_kl; clip=entry at 0.05 nats"  # what a routing states
    assert report(rollouts(), "routing=opsd_original", "loss=jsd")["loss"] == own
    both = report(rollouts(), "routing=no_perception", "loss=reverse_kl")["loss"]
    assert both == "divergence: reverse_kl; no clip"


def test_the_limit_of_clipped_tokens_is_that_of_the_warning_in_training():
    assert NO_GRADIENT == HIGH


@pytest.mark.slow
def test_a_format_that_is_not_kept_needs_a_loss_that_raises_it():
    def advice(valid: Callable[[int], bool], *overrides: str) -> str:
        fields = {"valid": valid, "reason": lambda i: "" if valid(i) else "no_think"}
        changes = report(rollouts(**fields), *overrides)["changes"]
        return next(change["why"] for change in changes if change["what"] == "prompt")

    def never(row: int) -> bool:
        return False

    def seldom(row: int) -> bool:
        return row % 10 == 0

    assert advice(never, "loss.clip=token").startswith("no finished answer follows the format")
    assert "or set loss.invalid=forward_kl loss.clip=scale:" in advice(never, "loss.clip=token")
    assert "or set loss.invalid=forward_kl:" in advice(never, "loss.clip=none")
    assert "or set" not in advice(never, "loss.invalid=forward_kl", "loss.clip=scale")
    assert "or set loss.clip=scale:" in advice(seldom, "loss.clip=token")
    assert "or set" not in advice(seldom, "loss.clip=none")
