"""The share of tokens without gradient is shown at each step, in a single warning, and at the end."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import distill_config

FEW = (
    "trainer.batch=2",
    "rollout.max_new_tokens=4",
    "bench.tasks.priorworld.rows=1",
    "bench.samples=0",
    "bench.max_new_tokens=4",
    "loss.clip=token",
)


def run(out, *overrides: str):
    from vigos_cli.training.distill import distill

    return distill(distill_config(*FEW, f"out={out}", "resume=auto", *overrides))


def warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if "of the supervised tokens have no gradient" in line]


@pytest.mark.slow
def test_a_run_with_many_clipped_tokens_prints_one_warning(tmp_path, capsys):
    """Eleven steps, in which nearly all tokens are above the limit."""
    out, steps = tmp_path / "run", ("trainer.steps=11", "trainer.checkpoint_every=10", "loss.clip_value=1e-9")
    summary = run(out, *steps)
    said = capsys.readouterr()
    (warning,) = warnings(said.err)
    for change in ("loss.clip=scale", "loss.clip_value=1e-08", "loss.clip=none"):
        assert change in warning
    lines = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    silent = sum(line["zero_gradient_rate"] * line["supervised_tokens"] for line in lines)
    rate = silent / sum(line["supervised_tokens"] for line in lines)
    assert rate > 0.5 and summary and summary["zero_gradient_rate"] == pytest.approx(rate)
    assert json.loads((out / "summary.json").read_text())["zero_gradient_rate"] == pytest.approx(rate)
    assert f"no gradient {lines[-1]['zero_gradient_rate']:.2f}" in said.err, "in the progress line"
    assert f"{rate:.0%} of the supervised tokens had no gradient" in said.out, "in the output at the end"

    again = out.with_name("resumed")  # the folder after a kill in the last step
    shutil.copytree(out, again, ignore=shutil.ignore_patterns("step-000011", "summary.json", "adapter"))
    run(again, *steps)
    assert len(warnings(capsys.readouterr().err)) == 1, "the warning uses steps 2 to 10 of metrics.jsonl"


@pytest.mark.slow
def test_a_run_without_a_clip_prints_nothing_about_it(tmp_path, capsys):
    summary = run(tmp_path, "trainer.steps=1", "loss.clip=none")
    said = capsys.readouterr()
    assert summary and summary["zero_gradient_rate"] == 0
    assert "no gradient" not in said.out and not warnings(said.err)


def step(rate: float | None, tokens: int = 8):
    silent = {} if rate is None else {"zero_gradient_rate": rate}
    return {"step": 1, "loss": 0.5, "valid_rate": 1.0, "supervised_tokens": tokens, **silent}


def seen(rates, before=()) -> list[int]:
    """The steps at which a warning is printed."""
    from vigos_cli.config.schema import LossConfig
    from vigos_cli.training.clipping import ClipWatch

    watch, said = ClipWatch(LossConfig(), [step(rate) for rate in before]), []
    for i, rate in enumerate(rates, start=1):
        was = watch.warned
        watch.warn(step(rate))
        said += [i] * (watch.warned and not was)
    return said


@pytest.mark.parametrize(
    ("rates", "before", "expected"),
    [
        ([0.6] * 9, [], []),
        ([0.6] * 40, [], [10]),
        ([0.5] * 40, [], []),
        ([0.6] * 9 + [0.5] + [0.6] * 9, [], []),
        ([0.6] * 9 + [0.5] + [0.6] * 10, [], [20]),
        ([0.6] * 9 + [None] + [0.6], [], [11]),
        ([0.6], [0.6] * 9, [1]),
        ([0.6] * 2, [0.6] * 8, [2]),
        ([0.6] * 5, [0.6] * 25, [1]),
        ([0.4] + [0.6] * 9, [0.6] * 25, []),
        ([0.6] * 9, [0.6, 0.1], []),
    ],
)
def test_the_warning_comes_once_after_ten_steps_in_a_row(rates, before, expected, capsys):
    assert seen(rates, before) == expected
    assert len(warnings(capsys.readouterr().err)) == len(expected)


def test_the_rate_of_a_run_is_weighted_by_its_tokens():
    from vigos_cli.training.clipping import progress_note, zero_gradient_rate

    assert zero_gradient_rate([step(0.5, 10), step(None, 0), step(1.0, 30)]) == pytest.approx(0.875)
    assert zero_gradient_rate([step(None, 0)]) is None and zero_gradient_rate([]) is None
    assert progress_note(step(0.25)) == "loss 0.500  valid 1.00  no gradient 0.25"
    assert progress_note(step(None)) == "loss 0.500  valid 1.00"
