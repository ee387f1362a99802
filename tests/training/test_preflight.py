"""One line if a run would learn nothing, or would use less data than its settings say."""

from __future__ import annotations

import json
import re

import pytest
from conftest import distill_config

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.utils.errors import ConfigError, UserError

BENCH = ("bench.tasks.priorworld.rows=1", "bench.samples=0", "bench.max_new_tokens=4")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "batch", "working"),
    [(64, 32, [64]), (2, 1, [2]), (8, 4, [8]), (8, 12, [8, 16]), (5, 32, [30, 35]), (3, 4, [3, 6])],
)
def test_the_batch_must_be_a_multiple_of_the_rollouts_per_prompt(n, batch, working):
    with pytest.raises(ConfigError) as caught:
        distill_config(f"rollout.n={n}", f"trainer.batch={batch}")
    said = str(caught.value)
    assert "\n" not in said
    assert re.search(rf"rollout\.n={n}\b", said) and re.search(rf"trainer\.batch={batch}\b", said)
    named = said.split("set ")[1]
    assert [int(number) for number in re.findall(r"\d+", named)] == working
    for number in working:
        config = distill_config(f"rollout.n={n}", f"trainer.batch={number}")
        assert config.trainer.batch % config.rollout.n == 0


def test_a_loss_without_any_weight_is_refused():
    zero = [f"loss.{name}_weight=0" for name in ("description", "reasoning", "invalid")]
    with pytest.raises(ConfigError, match="are all 0, so nothing would be learned"):
        distill_config(*zero)
    assert distill_config(*zero[:2]).loss.invalid_weight == 2
    assert distill_config(*zero, "routing=opsd").loss.invalid_weight == 0, "its teacher has no weight"


def test_settings_that_may_be_mistakes_give_a_line():
    from vigos_cli.training.preflight import notes

    config = distill_config("trainer.batch=12", "rollout.n=2")
    assert notes(config, 6) == []
    (line,) = notes(config, 5)
    assert "5 rows are fewer than the 6 prompts of a step" in line and "trainer.batch=10 " in line
    assert distill_config("rollout.n=2", "trainer.batch=10")
    kinds = ("description", "reasoning", "answer", "delimiters", "end", "invalid")
    (line,) = notes(distill_config(*[f"routing.supervise.{kind}=none" for kind in kinds]), 100)
    assert "no token has a teacher" in line
    assert notes(distill_config("routing=two_pass"), 1) == []


def step(rollouts: int, **counts: int) -> dict[str, int]:
    return {"rollouts": rollouts} | {f"counts/{name}": n for name, n in counts.items()}


def test_a_run_ends_after_three_steps_without_a_row():
    from vigos_cli.training.preflight import EmptySteps

    empty = EmptySteps(10)
    for line in [step(0), step(0), step(1), step(0, missing_image=2), step(0, prompt_too_long=4)]:
        empty.see(line)
    with pytest.raises(UserError) as caught:
        empty.see(step(0, prompt_too_long=1, step_without_supervision=1))
    said = str(caught.value)
    assert "3 steps in a row" in said and "(prompt_too_long 5, missing_image 2)" in said
    assert "model.max_prompt" in said and "\n" not in said
    with pytest.raises(UserError, match="1 steps"):
        EmptySteps(1).see(step(0))


@pytest.mark.parametrize("steps", [1, 20])
def test_a_run_without_usable_rows_stops(tmp_path, steps):
    from vigos_cli.training.distill import distill

    few = ("trainer.batch=2", f"trainer.steps={steps}", "model.max_prompt=20", f"out={tmp_path}", *BENCH)
    with pytest.raises(UserError, match=r"no row could be used in \d steps .*prompt_too_long"):
        distill(distill_config(*few))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == min(steps, 3)
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.slow
def test_a_run_with_fewer_rows_than_a_step_prints_a_line_and_learns(tmp_path, capsys):
    from vigos_cli.training.distill import distill

    world = PriorWorld(size=2)
    rows = []
    for i in range(2):
        world[i].images[0].save(tmp_path / f"{i}.png")
        rows.append({"question": world[i].question, "answer": world[i].answer, "images": f"{i}.png"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = (
        "data=jsonl",
        "bench=priorworld",
        f"data.path={tmp_path / 'rows.jsonl'}",
        f"out={tmp_path / 'run'}",
    )
    few = ("trainer.batch=4", "trainer.steps=null", "rollout.max_new_tokens=4", *BENCH)
    summary = distill(distill_config(*own, *few))
    assert summary and summary["steps"] == 1
    assert "data: 2 rows are fewer than the 4 prompts of a step" in capsys.readouterr().out
