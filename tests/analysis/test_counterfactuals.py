"""PALR and visual dependency: their formulas, which teacher each change affects, and whole runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vigos_cli.analysis.counterfactuals import (
    WRONG,
    CounterfactualScore,
    CounterfactualScorer,
    possible_answers,
    wrong_answers,
)
from vigos_cli.analysis.palr import palr, support, visual_dependency
from vigos_cli.analysis.rollout_run import sample
from vigos_cli.analysis.token_scores import TokenScore, score_tokens
from vigos_cli.config.compose import job
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld, vocabulary
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import prepare
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, UserError

# ---- the definition


@given(st.floats(-20, 0), st.lists(st.floats(-20, 0), min_size=1, max_size=4))
def test_support_is_the_gain_over_the_mean_of_the_counterfactuals(logprob, others):
    mean = sum(map(math.exp, others)) / len(others)
    assert support(logprob, others) == pytest.approx(max(0.0, logprob - math.log(mean)), abs=1e-9)
    assert support(logprob, []) == 0.0
    assert support(logprob, [logprob]) == pytest.approx(0, abs=1e-12)


def line(row: int, *tokens: tuple[str, float, float | None, float | None, float | None]) -> dict[str, Any]:
    """A line with tokens (kind, student, teacher, c^A, c^I); visual dependency is the token's index."""
    kinds, student, teacher, by_answer, by_image = ([*column] for column in zip(*tokens, strict=True))
    return {
        "row": row,
        "kinds": kinds,
        "student_logprob": student,
        "teacher_logprob": teacher,
        "answer_support": by_answer,
        "image_support": by_image,
        "visual": list(range(len(tokens))),
    }


LINES = [
    line(
        0,
        ("description", -1.0, -0.5, 0.0, 2.0),
        ("delimiters", -1.0, None, None, None),
        ("reasoning", -2.0, -1.0, 3.0, 1.0),
        ("answer", -0.5, -2.5, 1.0, 0.0),
    ),
    line(1, ("reasoning", -1.0, -1.0, 9.0, 0.0), ("reasoning", -3.0, -1.0, 0.0, 2.0)),
]


def test_palr_is_the_share_of_the_weighted_support():
    found = palr(LINES)

    def mean(group: str) -> float:
        figure = found[group]
        assert figure is not None
        return figure["mean"]

    assert mean("description") == 0
    assert mean("reasoning") == pytest.approx(3 / (4 + 0 + 4))  # a token with equal probabilities weighs 0
    assert mean("answer") == pytest.approx(1)
    assert mean("reasoning+answer") == pytest.approx((3 + 2) / (4 + 0 + 4 + 2))
    assert mean("turn") == pytest.approx(5 / (1 + 10))
    assert found["delimiters"] is None and found["end"] is None  # tokens without a teacher have no PALR
    reasoning, description = found["reasoning"], found["description"]
    assert reasoning and description
    assert (reasoning["n"], reasoning["tokens"], reasoning["pull"]) == (2, 3, 1.0)
    assert reasoning["low"] < reasoning["mean"] < reasoning["high"]
    assert (description["low"], description["high"], description["n"]) == (0, 0, 1)


@pytest.mark.parametrize("rows", [1, 200])
def test_palr_of_tokens_with_tiny_weights_does_not_depend_on_their_number(rows):
    found = palr([line(row, ("answer", -1.0, -1.0 + 1e-6, 9e-4, 1e-4)) for row in range(rows)])["answer"]
    assert found and (found["mean"], found["low"]) == pytest.approx((0.9, 0.9))


def test_palr_without_any_support_is_zero():
    found = palr([line(0, ("answer", -1.0, -1.0, 9.0, 1.0), ("answer", -1.0, -2.0, 0.0, 0.0))])["answer"]
    assert found and (found["mean"], found["low"], found["high"]) == (0, 0, 0)


def test_visual_dependency_is_a_mean_over_the_tokens_of_a_kind():
    found = visual_dependency(LINES)
    assert found["reasoning"] and found["reasoning"]["mean"] == pytest.approx((2 + 0 + 1) / 3)
    assert found["delimiters"] and found["delimiters"]["tokens"] == 1
    assert found["invalid"] is None


# ---- wrong answers


@pytest.mark.parametrize("index", range(0, 40, 3))  # every family
def test_wrong_answers_are_possible_but_neither_true_nor_the_reference(index):
    data = PriorWorld(size=40)
    one = data[index]
    words = vocabulary(one.family)
    told = words[0]
    wrong = wrong_answers(data, one, told, 0)
    assert len(set(wrong)) == len(wrong) == min(WRONG, len({*words} - {one.answer, told}))
    assert set(wrong) <= {*words} - {one.answer, told}
    assert one.answer in words


def table(*answers: str) -> list[Sample]:
    return [Sample(str(i), "What?", answer, ()) for i, answer in enumerate(answers)]


def test_wrong_answers_of_other_data_have_the_same_type():
    data = table("3", "12", "a cat", "7.5", "a dog", "a cow", "A Cat.")
    assert set(wrong_answers(data, data[0], "3", 0)) == {"12", "7.5"}
    assert {text.lower().rstrip(".") for text in wrong_answers(data, data[2], "a cat", 0)} == {
        "a dog",
        "a cow",
    }
    assert wrong_answers(table("a cat", "A CAT"), data[2], "a cat", 0) == ()


def test_wrong_answers_of_choices_have_the_form_of_the_reference():
    assert possible_answers(Sample("a", "Which? A. red B. blue", "(B)", ()), "(B)") == ["(A)", "(B)"]
    assert possible_answers(Sample("a", "Which?", "C", ()), "C") == ["A", "B", "C", "D", "E"]
    assert possible_answers(Sample("a", "Is it?", "Yes", ()), "Yes") == ("yes", "no")
    assert possible_answers(Sample("a", "Which?", "red", (), options=("red", "blue")), "red") == (
        "red",
        "blue",
    )


# ---- a model


class Scored:
    """Rollouts of three PriorWorld samples with one invalid, scored under a routing."""

    def __init__(self, student: Any, *overrides: str):
        self.student = student
        run = ("limit=3", "rollout.max_new_tokens=60", "looking=true", "out=unused", *overrides)
        self.config: Any = job("rollout", list(run))
        self.prompter = Prompter(student.processor, self.config.prompt, self.config.routing)
        self.data = PriorWorld(size=3, seed=0, conflict=0.0)  # the student's usual answers are right
        prepared = prepare(self.data, [(i, i) for i in range(3)], self.prompter, self.config, {})  # type: ignore[arg-type]
        pairs = sample_rollouts(student, prepared, self.prompter, self.config, 0)
        cut = replace(pairs[2][1], ids=pairs[2][1].ids[:9], ends=pairs[2][1].ends[: 9 + 1], finished=False)
        cut = replace(cut, ends=pairs[2][1].ends[: len(cut.prompt.prefill) + 9])
        self.rollouts = [*pairs[:2], (pairs[2][0], replace(cut, text=cut.text[: cut.ends[-1]]))]
        self.rows = supervise_all(self.rollouts, self.prompter, self.config)
        self.weights = TeacherWeights.at_start(self.config.routing)
        self.scores = score_tokens(student, self.rows, self.weights, self.config)

    def counterfactual(self) -> tuple[CounterfactualScorer, list[tuple[CounterfactualScore, ...]]]:
        scorer = CounterfactualScorer(self.student, self.prompter, self.data, self.config, self.weights)
        return scorer, scorer.score(self.rollouts, self.rows, self.scores)


def of_kind(
    rows: Sequence[Supervised], found: Sequence[Sequence[CounterfactualScore]], *kinds: str
) -> list[CounterfactualScore]:
    return [
        score
        for row, tokens in zip(rows, found, strict=True)
        for kind, score in zip(row.segments.kinds, tokens, strict=True)
        if kind in kinds
    ]


@pytest.mark.slow
def test_the_reference_has_no_effect_on_the_description_under_vigos(tiny):
    scored = Scored(tiny)
    scorer, found = scored.counterfactual()
    assert [row.segments.valid for row in scored.rows] == [True, True, False]
    described = of_kind(scored.rows, found, "description")
    assert len(described) > 20 and all(score.answer == 0 for score in described)  # exactly zero
    assert any(score.image and score.image > 1 for score in described)
    assert any(
        score.answer and score.answer > 1e-3 for score in of_kind(scored.rows, found, "reasoning", "answer")
    )
    for score in of_kind(scored.rows, found, "delimiters", "end", "invalid"):
        assert score.answer is None and score.image is None  # no teacher, or an invalid rollout
    assert not scorer.take_counts()


@pytest.mark.slow
def test_the_reference_affects_a_description_whose_teacher_reads_it(tiny):
    """Shows that c^A is 0 above only because the perception teacher does not read the reference."""
    leaky = "routing.teachers.perception.told=[question,answer]"
    _, found = (scored := Scored(tiny, leaky)).counterfactual()
    assert any(score.answer for score in of_kind(scored.rows, found, "description"))
    _, found = (scored := Scored(tiny, "routing=opsd_structured")).counterfactual()
    assert any(score.answer for score in of_kind(scored.rows, found, "description"))
    assert all(score.answer is not None for score in of_kind(scored.rows, found, "delimiters", "end"))


@pytest.mark.slow
def test_supports_equal_the_definition(tiny):
    """Compute c^A and c^I of one token with the model's own head, and compare."""
    scored = Scored(tiny)
    _, found = scored.counterfactual()
    item, rollout = scored.rollouts[0]
    token = scored.rows[0].segments.kinds.index("reasoning") + 3
    wrong = wrong_answers(scored.data, item.sample, item.reference, 0)
    assert len(wrong) >= 1 and item.reference not in wrong

    def logprob(reference: str, of: Sample, role: str = "reasoning", token: int = token) -> float:
        images = scored.prompter.encode(of.images)
        prompt = scored.prompter.render(role, images, question=item.sample.question, reference=reference)
        ids = (*prompt.ids, *rollout.ids)
        with torch.no_grad(), tiny.weights("initial"):
            logits = tiny.base(**tiny.batch([ids], [prompt]), use_cache=False).logits[0]
        return float(logits[len(prompt.ids) + token - 1].log_softmax(-1)[rollout.ids[token]])

    own = logprob(item.reference, item.sample)
    mean = sum(math.exp(logprob(answer, item.sample)) for answer in wrong) / len(wrong)
    assert scored.scores[0][token].teacher_logprob == pytest.approx(own, abs=1e-4)
    score = found[0][token]
    assert score.answer == pytest.approx(max(0.0, own - math.log(mean)), abs=1e-3)
    token = max(range(len(found[0])), key=lambda i: found[0][i].image or 0)
    assert scored.rows[0].segments.kinds[token] == "description"
    own, other = (logprob("", scored.data[i], "perception", token) for i in (0, 1))
    assert own - other > 1 and found[0][token].image == pytest.approx(own - other, abs=1e-3)


@pytest.mark.slow
def test_visual_dependency_of_a_grey_picture_is_zero(tiny):
    scored = Scored(tiny)
    _, found = scored.counterfactual()
    assert all(score.visual >= 0 for row in found for score in row)
    assert sum(score.visual for score in of_kind(scored.rows, found, "description")) > 10
    grey = Scored(tiny)
    from vigos_cli.data.controls import blank_like

    images = [blank_like(image) for image in grey.rollouts[0][0].sample.images]
    encoded = grey.prompter.encode(images)
    item, rollout = grey.rollouts[0]
    prompt = grey.prompter.render(STUDENT, encoded, question=item.sample.question)
    item = replace(item, sample=replace(item.sample, images=tuple(images)), images=encoded, prompt=prompt)
    grey.rollouts = [(item, replace(rollout, prompt=prompt))]
    grey.rows = supervise_all(grey.rollouts, grey.prompter, grey.config)
    grey.scores = score_tokens(tiny, grey.rows, grey.weights, grey.config)
    _, found = grey.counterfactual()
    assert max(score.visual for score in found[0]) < 1e-5


@pytest.mark.slow
def test_a_row_without_another_picture_or_answer_is_left_out_and_counted(tiny):
    scored = Scored(tiny)
    scored.data = PriorWorld(size=1, seed=0, conflict=1.0)
    scored.rollouts, scored.rows = scored.rollouts[:1], scored.rows[:1]
    scorer, found = scored.counterfactual()
    assert [dict(own) for own in scorer.take_counts().values()] == [{"palr_no_other_picture": 1}]
    assert all(score.answer is None for score in found[0]) and found[0][0].visual > 0


@pytest.mark.slow
def test_scores_without_a_teacher_have_no_palr(tiny):
    """The control `sft` has targets but no teachers."""
    scored = Scored(tiny, "routing=sft")
    assert all(isinstance(score, TokenScore) and score.teacher is None for score in scored.scores[0])
    _, found = scored.counterfactual()
    assert all(score.answer is None for row in found for score in row)


# ---- whole runs


def rollouts(folder: Path, out: str, *overrides: str) -> list[dict[str, Any]]:
    run = ["limit=3", "rollout.max_new_tokens=48", "looking=true", f"out={folder / out}", *overrides]
    return sample(job("rollout", run))  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_same_rollouts_are_scored_under_another_routing(tmp_path):
    first = rollouts(tmp_path, "first", "rollout.n=2")
    again = f"rollouts={tmp_path / 'first'}"
    second = rollouts(tmp_path, "second", again, "routing=opsd_structured")
    same = ("id", "draw", "token_ids", "text", "kinds", "student_logprob", "visual")
    assert [[line[key] for key in same] for line in first] == [[line[key] for key in same] for line in second]
    assert {role for line in second for role in line["teacher"]} == {"privileged"}
    third = rollouts(tmp_path, "third", again, "limit=1")  # read in a narrower batch: other roundings
    for one, line in zip(third, first[:2], strict=True):
        assert [one[key] for key in same[:-1]] == [line[key] for key in same[:-1]]
        for key in ("kl", "visual"):
            assert [v is None for v in one[key]] == [v is None for v in line[key]]
            read = [[v for v in values if v is not None] for values in (one[key], line[key])]
            assert read[0] == pytest.approx(read[1], rel=1e-3, abs=1e-7)
    summary = json.loads((tmp_path / "second" / "summary.json").read_text())
    assert summary["palr"]["description"]["n"] == 3 and summary["palr"]["delimiters"]["n"] == 3
    first_summary = json.loads((tmp_path / "first" / "summary.json").read_text())
    assert first_summary["palr"]["description"]["mean"] == 0 and first_summary["palr"]["delimiters"] is None
    assert first_summary["visual_dependency"] == summary["visual_dependency"]
    assert '"answer_support"' in (tmp_path / "second" / "rollouts.html").read_text()

    with pytest.raises(ConfigError, match="sampled with seed=0, not 1"):
        rollouts(tmp_path, "other", again, "seed=1")
    with pytest.raises(ConfigError, match=r"sampled with routing\.student\.format=structured, not think"):
        rollouts(tmp_path, "other", again, "routing=opsd")
    with pytest.raises(ConfigError, match="not the output folder"):
        rollouts(tmp_path, "other", f"rollouts={tmp_path}")
    lines = [line | {"id": "elsewhere"} for line in first]
    (tmp_path / "first" / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="saved rollouts are of elsewhere"):
        rollouts(tmp_path, "other", again)


def test_palr_refuses_worked_solutions_as_references():
    with pytest.raises(ConfigError, match="cannot be replaced by a wrong answer"):
        job("rollout", ["looking=true", "routing.teachers.reasoning.told=[question,solution]"])
    for routing in ("sft", "two_pass"):  # without a teacher: visual dependency alone
        assert job("rollout", ["looking=true", f"routing={routing}"]).looking
