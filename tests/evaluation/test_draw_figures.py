"""Majority vote, agreement, tokens and cut-off answers are compared with results derived by hand."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest

from vigos_cli.evaluation.draw_figures import agreement, draw_figures, same_answers, vote
from vigos_cli.evaluation.graded import Graded
from vigos_cli.reporting import terminal_tables
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.console import Terminal

OPTIONS = ("red", "blue", "green")


def draws(
    *said: str | None, gold: str = "red", name: str = "a", options: tuple[str, ...] = ()
) -> list[Graded]:
    """Draws of one item. None is an unparsed draw; an answer that starts with the gold is right."""
    sample = Sample(name, "", gold, (), options=options)
    made = []
    for number, text in enumerate(said):
        word = "unparsed" if text is None else "right" if text.casefold().startswith(gold) else "wrong"
        made.append(Graded(sample, number, Verdict(word, text, "test", "")))
    return made


def counted(name: str, *answers: tuple[bool, int | None, bool | None]) -> list[Graded]:
    """Draws of one item: right, tokens, finished."""
    return [
        Graded(
            Sample(name, "", "", ()), k, Verdict("right" if right else "wrong", "x", "", ""), None, "", n, end
        )
        for k, (right, n, end) in enumerate(answers)
    ]


# ---------------------------------------------------------------- the same answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("blue", "Blue.", True),
        ("**blue**", "blue", True),
        ("4", "4.0", True),
        ("3,000", "3000", True),
        ("0.5", "50%", True),
        ("12 cm", "120 mm", True),
        ("(A)", "A", True),
        ("4", "5", False),
        ("12", "1,2", False),
        ("blue", "green", False),
        ("x + 1", "1 + x", False),  # formulas are the same only if they are written in the same way
        ("x + 1", "X + 1", True),
    ],
)
def test_answers_of_two_draws(one: str, other: str, same: bool):
    assert len(same_answers(draws(one, other))) == (1 if same else 2)


def test_formulas_are_not_given_to_the_grader(monkeypatch):
    monkeypatch.setattr("vigos_cli.grading.grade", lambda *_: pytest.fail("the grader was asked"))
    formulas = draws("x + 1", "1 + x", r"\frac{1}{2}", "4x", "2^3", "a" * 200, "a" * 199)
    assert len(same_answers(formulas)) == 7
    assert len(same_answers(draws("1", "2", "3"))) == 3


def test_draws_with_the_same_option_are_the_same_answer():
    assert [len(a) for a in same_answers(draws("B", "(B) blue", "blue", "C", options=OPTIONS))] == [3, 1]
    assert len(same_answers(draws("B", "blue"))) == 2  # without options, a letter is no colour


def test_an_unparsed_draw_from_which_a_text_was_extracted_has_no_vote():
    unparsed = Verdict("unparsed", "red or blue", "choice", "two options fit")
    made = [Graded(Sample("a", "", "red", ()), k, unparsed) for k in range(2)]
    assert same_answers(made) == [] and vote(made) == agreement(made) == 0


def test_draws_with_different_verdicts_are_different_answers():
    right, wrong = Verdict("right", "red", "", ""), Verdict("wrong", "red", "", "")
    sample = Sample("a", "", "red", ())
    assert len(same_answers([Graded(sample, 0, right), Graded(sample, 1, wrong)])) == 2


# ---------------------------------------------------------------- vote and agreement


@pytest.mark.parametrize(
    ("said", "votes", "agrees"),
    [
        (("red", "red", "blue"), 1, 1 / 3),
        (("red", "blue", "blue"), 0, 1 / 3),
        (("red", "red", "blue", "blue"), 1 / 2, 2 / 6),  # two answers with two draws each, one is right
        (("red", "blue", "green"), 1 / 3, 0),
        (("red", None, None), 1, 0),  # unparsed draws have no vote and agree with none
        ((None, None), 0, 0),
        (("red", "red", "red", "blue", None), 1, 3 / 10),
    ],
)
def test_vote_and_agreement_of_one_item(said, votes, agrees):
    assert vote(draws(*said)) == pytest.approx(votes)
    assert agreement(draws(*said)) == pytest.approx(agrees)


def test_the_order_of_the_draws_does_not_matter():
    said = ["red", "red", "blue", "blue", "green", None]
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(np.array(said, object)).tolist()
        assert vote(draws(*shuffled)) == 1 / 2 and agreement(draws(*shuffled)) == pytest.approx(2 / 15)


def test_vote_and_agreement_are_means_over_items_with_intervals():
    items = [draws(*said, name=str(i)) for i, said in enumerate([("red", "red", "blue"), ("blue",) * 3] * 10)]
    found = draw_figures([one for item in items for one in item])
    assert found["vote"]["mean"] == 0.5 and found["vote"]["n"] == 20
    assert found["agreement"]["mean"] == pytest.approx((1 / 3 + 1) / 2) and found["agreement"]["n"] == 20
    for name in ("vote", "agreement"):
        assert found[name]["low"] < found[name]["mean"] < found[name]["high"]


def test_one_draw_has_no_vote():
    assert draw_figures(draws("red")).keys() == {"tokens", "tokens_per_right", "cut_off"}
    assert set(draw_figures(draws("red", "red"), by_rules=False)) == {"tokens", "cut_off"}


# ---------------------------------------------------------------- tokens and length


def test_tokens_and_cut_off_answers():
    graded = [
        *counted("a", (True, 10, True), (True, 20, True)),
        *counted("b", (False, 100, False), (True, 30, True)),
        *counted("c", (False, 40, True), (False, None, None)),  # nothing is known about a refused answer
    ]
    found = draw_figures(graded)
    assert (found["tokens"]["mean"], found["tokens"]["n"]) == (200 / 5, 5)
    assert found["tokens_per_right"]["mean"] == pytest.approx(200 / 3)  # wrong answers cost tokens as well
    assert found["tokens_per_right"]["n"] == 3
    assert (found["cut_off"]["mean"], found["cut_off"]["n"]) == (1 / 5, 5)
    for name in ("tokens", "tokens_per_right", "cut_off"):
        assert found[name]["low"] < found[name]["mean"] < found[name]["high"]


def test_items_without_a_right_answer_count_in_the_tokens_per_right_answer():
    graded = [*counted("a", (True, 10, True)), *counted("b", (False, 90, True))]
    assert draw_figures(graded)["tokens_per_right"]["mean"] == 100
    assert draw_figures(graded[1:])["tokens_per_right"] is None


def test_what_is_not_known_is_none_and_a_dash(monkeypatch):
    found = draw_figures(draws("red", "red"))
    assert found["tokens"] is found["tokens_per_right"] is found["cut_off"] is None
    screen = StringIO()
    monkeypatch.setattr(terminal_tables, "Terminal", lambda width=110: Terminal(file=screen, width=width))
    terminal_tables.print_draws({"plain": found | {"missing": 0}})
    last = [line for line in screen.getvalue().splitlines() if "saved" in line][-1]
    assert [cell.strip() for cell in last.split("│")[3:-1]] == ["1.000 n=1", "1.000 n=1", "-", "-", "-"]
    screen.truncate(0)
    terminal_tables.print_draws({"mmvet": {"tokens": None, "cut_off": None}})
    assert screen.getvalue() == ""
