"""Training metrics and saved rollouts grade answers with the same rules as the benchmarks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from conftest import distill_config, make_student

from vigos_cli.analysis import rollout_run
from vigos_cli.config.compose import job
from vigos_cli.data.priorworld import PriorWorld, vocabulary
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches
from vigos_cli.training import step
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step
from vigos_cli.types import Segments
from vigos_cli.utils.quiet import quieten

OPTIONS = "Which colour is it? (A) red (B) blue (C) green"
EQUAL = "Which colour is it? (A) red (B) blue (C) red"
PLAIN = "How many?"

RIGHT = [  # question, reference as written in the data, answer
    (PLAIN, "<answer>4</answer>", "4"),
    (PLAIN, r"\boxed{4}", "4"),
    (PLAIN, "```\n4\n```", "4."),
    (PLAIN, "4.0", "4"),
    (PLAIN, "4", "four"),
    (PLAIN, r"<answer>\frac{1}{2}</answer>", "0.5"),
    (PLAIN, "B", "(B)"),
    (PLAIN, "(B)", "B"),
    (OPTIONS, "B", "blue"),
    (OPTIONS, "(B)", "(B) blue"),
    (OPTIONS, r"\boxed{B}", "B. blue"),
    (EQUAL, "C", "C"),
    (PLAIN, "red", "Red."),
    (PLAIN, "None", "none"),  # benchmarks read this gold answer as missing
]
WRONG = [
    (PLAIN, "<answer>4</answer>", "5"),
    (PLAIN, r"\boxed{4}", "14"),
    (PLAIN, "4.0", "4.5"),
    (PLAIN, "4", "answer"),
    (PLAIN, "B", "(C)"),
    (OPTIONS, "B", "red"),
    (OPTIONS, "B", "(A) red"),
    (OPTIONS, "B", "red or blue"),
    (EQUAL, "C", "A"),
    (EQUAL, "C", "red"),
    (PLAIN, "red", "dark red"),
    (PLAIN, "red", ""),  # this rollout is invalid
    (PLAIN, "x", "<answer>"),
]


def samples(cases):
    """One row for each case, with different pictures."""
    world = PriorWorld(size=len(cases))
    return [
        replace(world[i], id=str(i), question=question, answer=reference, prior=None)
        for i, (question, reference, _) in enumerate(cases)
    ]


def answers_instead(monkeypatch, module, data, cases):
    """Replace each sampled rollout by one with the answer of its case; with an empty answer it is invalid."""
    whole = module.supervise_all
    by_id = {sample.id: answer for sample, (_, _, answer) in zip(data, cases, strict=True)}

    def forced(rollouts, prompter, config):
        rows = whole(rollouts, prompter, config)
        answers = [by_id[item.sample.id] for item, _ in rollouts]
        return [
            replace(row, segments=replace(row.segments, answer=answer, valid=bool(answer)))
            for row, answer in zip(rows, answers, strict=True)
        ]

    monkeypatch.setattr(module, "supervise_all", forced)


@pytest.fixture(scope="module")
def student():
    return make_student()


@pytest.mark.slow
@pytest.mark.parametrize(("cases", "share"), [(RIGHT, 1.0), (WRONG, 0.0)], ids=["right", "wrong"])
@pytest.mark.parametrize("routing", ["vigos", "other_answer"])
def test_the_accuracy_of_a_step_is_that_of_the_graders(student, monkeypatch, cases, share, routing):
    data = samples(cases)
    answers_instead(monkeypatch, step, data, cases)
    config = distill_config(
        f"trainer.batch={len(cases)}", "rollout.max_new_tokens=8", f"routing={routing}", "trainer.lr=1e-9"
    )
    prompter = Prompter(student.processor, config.prompt, config.routing)
    line = train_step(make_learner(student, config), Batches(data, prompter, config), prompter, config)
    assert line["rollouts"] == len(cases)
    assert line["answer_accuracy"] == share


def test_a_saved_rollout_has_the_verdict_of_the_graders(tmp_path, monkeypatch):
    cases = RIGHT + WRONG
    data = samples(cases)
    answers_instead(monkeypatch, rollout_run, data, cases)
    monkeypatch.setattr(rollout_run, "load_data", lambda *_: data)
    quieten()
    lines = rollout_run.sample(job("rollout", [f"out={tmp_path}", "rollout.max_new_tokens=8"]))
    said = {line["row"]: line["correct"] for line in lines}
    expected = [True] * len(RIGHT) + [False] * len(WRONG)
    assert [(cases[i], said[i]) for i in said] == list(zip(cases, expected, strict=True))
    rules = {line["row"]: line["rule"] for line in lines}
    assert rules[RIGHT.index((PLAIN, "4.0", "4"))] == "number"
    assert rules[RIGHT.index((OPTIONS, "B", "blue"))] == "choice"
    assert rules[cases.index((PLAIN, "red", ""))] is None


def test_equal_texts_and_priorworld_are_graded_without_a_process(monkeypatch):
    from vigos_cli.grading.worker import Pool
    from vigos_cli.supervision.rollout_grading import is_right

    def started(self, gold, answer):
        raise AssertionError(f"asked math-verify about {gold} and {answer}")

    monkeypatch.setattr(Pool, "equal", started)
    world = PriorWorld(size=200)
    sample = world[0]
    for text in (r"x^2+\frac{1}{2}", r"\sqrt{3}x+1=0", "f(x) = sin x"):
        assert is_right(replace(sample, answer=f"<answer>{text}</answer>"), answered(f" {text}"))
    families = {world[i].family: world[i] for i in range(200)}
    for sample in families.values():
        for gold, said in itertools.product(vocabulary(sample.family), repeat=2):
            assert is_right(replace(sample, answer=gold), answered(said)) == (gold == said)


def answered(text: str) -> Segments:
    return Segments(kinds=(), valid=True, reason="", answer=text)
