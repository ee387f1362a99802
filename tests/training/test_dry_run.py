"""The dry run measures steps of full length with every teacher, and the time of the whole run."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import distill_config, make_student

from vigos_cli.cli.explain import options
from vigos_cli.config.routing_checks import used_teachers
from vigos_cli.config.routing_group import STUDENT, WITHOUT_TEACHER
from vigos_cli.data.load import load_data
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.routing import routing_table
from vigos_cli.method.segments import parse_rollout
from vigos_cli.supervision import hidden_states
from vigos_cli.training import dry_run as module
from vigos_cli.training.dry_run import dry_run, longest
from vigos_cli.training.forced_turns import invalid_turn, valid_turn
from vigos_cli.training.learner import make_learner
from vigos_cli.utils.errors import UserError

SMALL = ("trainer.batch=2", "rollout.max_new_tokens=40", "trainer.steps=7", "bench.max_new_tokens=30")
COMPARING = ("sdpo", "u_opsd")  # these compare the rollouts of one prompt


def run_dry(*overrides: str, data: Any = None) -> Any:
    """The learner after a dry run, with its configuration."""
    config = distill_config(*SMALL, *overrides)
    student = make_student(*overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    dry_run(learner, data or PriorWorld(size=12), prompter, config)
    return learner


@pytest.mark.slow
@pytest.mark.parametrize("routing", sorted(options("routing")))
def test_every_teacher_of_the_routing_scores_rows_of_full_length(routing, monkeypatch, capsys):
    lengths: dict[str, set[int]] = {}

    def spy(student: Any, teacher: str, rows: Any, *rest: Any) -> Any:
        lengths.setdefault(teacher, set()).update(len(row.rollout.ids) for row in rows)
        return real(student, teacher, rows, *rest)

    real = hidden_states.teacher_states
    monkeypatch.setattr(hidden_states, "teacher_states", spy)
    chosen = (f"routing={routing}", *(("rollout.n=2",) if routing in COMPARING else ()))
    run_dry(*chosen)
    table = routing_table(distill_config(*chosen).routing)
    supervising = {name for names in table.values() for name in names} - set(WITHOUT_TEACHER)
    assert set(lengths) == set(used_teachers(distill_config(*chosen).routing))
    assert all(found == {40} for found in lengths.values())
    assert f"teachers: {', '.join(sorted(supervising)) or 'none'}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_dry_run_prints_memory_by_phase_and_the_time_of_the_whole_run(monkeypatch, capsys):
    batches: list[list[int]] = []

    def spy(student: Any, job: Any) -> Any:
        rollouts = real(student, job)
        batches.append([len(rollout.ids) for rollout in rollouts])
        return rollouts

    real = module.roll_out
    monkeypatch.setattr(module, "roll_out", spy)
    learner = run_dry("bench.batch=8", "bench.tasks.priorworld.limit=10", "trainer.eval_every=2")
    shown = capsys.readouterr().out
    assert batches == [[30] * 8], "one batch of answers of full length"
    assert learner.counts["length_limit"] == 2, "the valid turns end, the invalid ones do not"
    assert "of which loss" in shown and "evaluation, one batch" in shown
    # 10 items: a greedy and two sampled answers before and after, and a greedy one after steps 2, 4 and 6.
    assert f"{10 * (2 * 3 + 3)} answers of the evaluations" in shown and "7 steps: at most" in shown
    step_seconds = sum(learner.seconds[phase] for phase in ("rollout", "teachers", "learn"))
    (total,) = re.findall(r"whole run: at most (\d+) s", shown)
    assert abs(int(total) - 7 * step_seconds - learner.seconds["evaluate"] * 90 / 8) <= 1
    assert learner.student.stop_ids.isdisjoint(learner.student.banned_ids)


@pytest.mark.slow
def test_the_answers_to_rows_that_the_run_would_hold_back_are_counted(tmp_path, monkeypatch, capsys):
    world = PriorWorld(size=30)
    for index in range(30):
        world[index].images[0].save(tmp_path / f"{index}.png")
    row = '{{"question": "What is it?", "answer": "a hat", "images": ["{}.png"]}}'
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(row.format(index) for index in range(30)))
    own = ("data=jsonl", f"data.path={file}")
    config = distill_config(*SMALL, *own)
    monkeypatch.setattr(module, "_ask", lambda *_: None)
    run_dry(*own, data=load_data(config.data, 0))
    # A fifth of the 30 rows, greedy answers before and after
    assert "12 answers of the evaluations" in capsys.readouterr().out


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("spans", ["paper", "code"])
def test_a_forced_turn_has_its_length_and_its_form(tiny, structured, opened, spans):
    form = "structured" if structured else "think"
    config = distill_config(
        f"routing={'vigos' if structured else 'opsd'}", *(() if opened else (f"prompt.prefill_{form}=",))
    )
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    prompt = prompter.render(STUDENT, prompter.encode(()), question="q")
    assert bool(prompt.prefill) == opened
    for length in (30, 61):
        for make, valid in ((valid_turn, True), (invalid_turn, False)):
            ids = make(tiny, length, structured=structured, opened=opened)
            rollout = as_rollout(tiny, Request("0", prompt), ids)
            segments = parse_rollout(rollout, student=form, spans=spans)
            assert len(ids) == length and segments.valid is valid and rollout.finished is valid


def test_a_length_without_room_for_a_valid_turn_is_refused(tiny):
    with pytest.raises(
        UserError, match=r"max_new_tokens=9 is too small: a valid turn has at least (\d+)"
    ) as told:
        valid_turn(tiny, 9, structured=True, opened=True)
    least = int(str(told.value).split()[-2])
    assert len(valid_turn(tiny, least, structured=True, opened=True)) == least
    with pytest.raises(UserError):
        valid_turn(tiny, least - 1, structured=True, opened=True)


def test_the_longest_row_with_a_picture_is_taken(tiny):
    config = distill_config(*SMALL)
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    index, prompt, structured = longest(PriorWorld(size=12), prompter, config)
    lengths = [
        len(prompter.render(STUDENT, prompter.encode(s.images), question=s.question).ids)
        for s in (PriorWorld(size=12)[i] for i in range(12))
    ]
    assert lengths[index] == max(lengths) == len(prompt.ids) and structured
