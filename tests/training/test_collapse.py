"""A run whose model collapses is stopped with complete files; noise and learning are not a collapse."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import warm
from conftest import distill_config
from runs import RUN, adapter, same

from vigos_cli.cli.launch import Flags, launch
from vigos_cli.config.schema import TrainerConfig
from vigos_cli.training import loop
from vigos_cli.training.collapse import collapse
from vigos_cli.training.distill import distill

DEFAULTS = TrainerConfig()
UNTRAINED = {"benches": {"mine": {"accuracy": {"mean": 0.6, "low": 0.5, "high": 0.7, "n": 100}}}}


def lines(values: list[Any], name: str = "valid_rate", rollouts: int = 32) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl in which one figure has these values and nothing else changes."""
    usual = {"valid_rate": 0.9, "cut_off_rate": 0.1, "tokens_per_rollout": 100.0}
    return [
        {"step": step, "rollouts": rollouts, **usual, name: value} for step, value in enumerate(values, 1)
    ]


def judge(
    values: list[Any], name: str = "valid_rate", rollouts: int = 32, per_prompt: int = 1, **keys: Any
) -> str | None:
    trainer = TrainerConfig(**keys)
    return collapse(lines(values, name, rollouts), UNTRAINED, trainer, per_prompt=per_prompt)


def test_a_fall_of_the_valid_rate_is_a_collapse():
    assert judge([0.9] * 30 + [0.3] * 7) is None, "the mean of ten steps is still above a half"
    why = judge([0.9] * 30 + [0.3] * 10)
    assert why == "the valid rate of the last 10 steps is 0.30, and it was 0.90 at steps 1 to 10"
    assert judge([1.0] + [0.0] * 9) is None
    assert judge([1.0] + [0.0] * 10), "after the first step"
    assert judge([0.2] * 10 + [0.9] * 30 + [0.3] * 10), "compared with the best steps, not with the first"


def test_a_valid_rate_that_was_never_high_is_not_a_collapse():
    assert judge([0.0] * 50) is None
    assert judge([0.1] * 10 + [0.6] * 40) is None
    assert judge([0.9] * 30 + [0.5] * 30) is None


def test_the_keys_of_the_valid_rate():
    values = [0.9] * 30 + [0.3] * 10
    assert judge(values, collapse_valid=0.3) is None
    assert judge(values, collapse_steps=25) is None
    assert judge(values, stop_on_collapse=False) is None


def test_few_prompts_are_no_evidence():
    assert judge([0.5, 1.0, 0.25, 0.0], rollouts=2, collapse_steps=1) is None
    values = [1.0] * 3 + [0.3] * 3
    assert judge(values, collapse_steps=3)
    assert judge(values, collapse_steps=3, per_prompt=16) is None, "the same rollouts, of two prompts a step"


@pytest.mark.parametrize(("batch", "share"), [(2, 0.5), (4, 0.3), (4, 0.8), (8, 0.5), (8, 0.7)])
def test_noise_is_not_a_collapse(batch, share):
    rng = random.Random(0)
    for _ in range(4):
        draw = [sum(rng.random() < share for _ in range(batch)) / batch for _ in range(100)]
        for name in ("valid_rate", "cut_off_rate"):
            assert not any(judge(draw[:end], name, batch) for end in range(0, 101, 4))


def test_answers_that_meet_the_limit_are_a_collapse():
    why = judge([0.1] * 20 + [0.95] * 10, "cut_off_rate")
    assert why == "95% of the answers of the last 10 steps are cut off, and 10% were at steps 1 to 10"
    assert judge([0.1] * 20 + [0.8] * 10, "cut_off_rate") is None
    assert judge([0.1] * 20 + [0.8] * 10, "cut_off_rate", collapse_cut_off=0.75)
    assert judge([1.0] * 50, "cut_off_rate") is None, "a limit that was always too low"
    assert judge([0.6] * 20 + [1.0] * 10, "cut_off_rate") is None


def test_answers_that_become_ten_times_shorter_are_a_collapse():
    name = "tokens_per_rollout"
    why = judge([100.0] * 10 + [5.0] * 10, name)
    assert why == "answers of the last 10 steps have 5.0 tokens, and had 100.0 at steps 1 to 10"
    assert judge([100.0] * 10 + [11.0] * 10, name) is None
    assert judge([100.0] * 10 + [11.0] * 10, name, collapse_length=0.2)
    assert judge([1000.0] + [50.0] * 19, name) is None, "one long answer in the first step"


def scored(*scores: float | None, half: float = 0.05) -> list[dict[str, Any]]:
    """Lines of which every second one has an evaluation with this score."""
    found = lines([0.9] * 2 * len(scores))
    for line, score in zip(found[1::2], scores, strict=True):
        known = score is not None
        part = {"mean": score, "low": score - half, "high": score + half, "n": 9} if known else None
        line["eval"] = {"benches": {"mine": {"accuracy": part}}}
    return found


@pytest.mark.parametrize(
    ("scores", "stops"),
    [
        ((0.6, 0.4, 0.3), True),
        ((0.4, 0.3), True),
        ((0.6, 0.3), False),  # only one evaluation
        ((0.3, 0.6), False),
        ((0.3, 0.6, 0.3), False),  # not in a row
        ((0.3, 0.46), False),  # the second interval overlaps the untrained model's
        ((None, None), False),
    ],
)
def test_scores_surely_below_the_untrained_model_are_a_collapse(scores, stops):
    why = collapse(scored(*scores), UNTRAINED, DEFAULTS, per_prompt=1)
    assert bool(why) == stops
    if why:
        assert "0.600 [0.500, 0.700]" in why and f"({scores[-2]:.3f}, {scores[-1]:.3f})" in why
    assert collapse(scored(*scores), {}, DEFAULTS, per_prompt=1) is None, "the untrained model has no score"


def test_the_number_of_evaluations_is_a_key():
    assert collapse(scored(0.3), UNTRAINED, TrainerConfig(collapse_evaluations=1), per_prompt=1)
    three = TrainerConfig(collapse_evaluations=3)
    assert collapse(scored(0.3, 0.3), UNTRAINED, three, per_prompt=1) is None


def test_steps_without_a_usable_row_are_left_out():
    empty = {"step": 0, "rollouts": 0}
    assert collapse([empty] * 30, UNTRAINED, DEFAULTS, per_prompt=1) is None
    assert collapse([empty, *lines([1.0] + [0.0] * 10), empty], UNTRAINED, DEFAULTS, per_prompt=1)


SMALL = (
    *RUN[2:],
    "trainer.steps=8",
    "trainer.batch=8",
    "bench.tasks.priorworld.rows=1",
    "bench.samples=0",
    "bench.max_new_tokens=8",
    "rollout.max_new_tokens=64",
    "resume=auto",
)
HIGH = ("trainer.lr=0.3", "trainer.collapse_steps=3", "trainer.eval_every=2")


def read(out: Path, name: str = "summary.json") -> Any:
    return json.loads((out / name).read_text())


@pytest.mark.slow
def test_a_run_at_a_rate_far_too_high_is_stopped_with_all_its_files(tmp_path):
    out, plain = tmp_path / "run", tmp_path / "plain"

    def vigos(place: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return warm.run(warm.vigos_with_figures, ["distill", *SMALL, *HIGH, f"out={place}", *more])

    ended = vigos(out)
    assert ended.returncode == 3 and "Traceback" not in ended.stderr
    (line,) = [text for text in ended.stderr.splitlines() if "collapse" in text]
    assert line.startswith("vigos: stopped at step 4 of 8 by a collapse: the valid rate of the last 3 steps")
    summary = read(out)
    assert summary["stopped"] == "collapse" and summary["stopped_because"] in line and summary["steps"] == 4
    assert summary["after"]["n"] and (out / "curves.png").stat().st_size > 1000
    assert (out / "checkpoints" / "step-000004" / "state.json").exists()
    first = adapter(out)

    again = vigos(out)
    assert again.returncode == 3 and "was stopped at step 4" in again.stdout
    assert "trainer.stop_on_collapse=false" in again.stdout and read(out) == summary

    gone_on = vigos(out, "trainer.stop_on_collapse=false")
    assert gone_on.returncode == 0, gone_on.stderr
    after = read(out)
    assert after["steps"] == 8 and after["stopped"] is None and after["stopped_because"] is None
    assert after["changes"][0]["changed"] == {"trainer.stop_on_collapse": [True, False]}
    assert vigos(plain, "trainer.stop_on_collapse=false").returncode == 0
    assert same(adapter(out), adapter(plain)) and not same(adapter(out), first)
    assert read(plain)["best"] == after["best"] and read(plain)["after"] == after["after"]


@pytest.mark.slow
def test_a_run_killed_after_it_was_stopped_takes_no_further_step(tmp_path, monkeypatch):
    """The run is killed after the checkpoint, before its results are written."""
    config = distill_config(*SMALL, *HIGH, f"out={tmp_path / 'run'}")
    with monkeypatch.context() as patch:
        patch.setattr("vigos_cli.training.distill.save_adapter", killed)
        with pytest.raises(Killed):
            distill(config)
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.setattr(loop, "train_step", killed)
    summary = distill(config)
    assert summary and summary["stopped"] == "collapse" and summary["steps"] == 4


class Killed(Exception):
    """Ends a run at a chosen place."""


def killed(*args: Any, **options: Any) -> None:
    raise Killed


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_run_that_was_stopped(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = [item for item in (*SMALL, *HIGH) if not item.startswith(("trainer.lr", "resume", "trainer.steps"))]
    asked = [*few, "trainer.lr=0.3,1e-3", "trainer.steps=5", f"out={tmp_path / 'sweep'}"]
    assert launch("distill", asked, Flags(multirun=True)) == 0
    found = {path.name: read(path.parent) for path in (tmp_path / "sweep").glob("*/summary.json")}
    summaries = [read(path.parent) for path in sorted((tmp_path / "sweep").glob("*/summary.json"))]
    assert found and sorted(str(one["stopped"]) for one in summaries) == ["None", "collapse"]
    assert capsys.readouterr().err.count("by a collapse") == 1
