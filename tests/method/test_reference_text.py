"""The reference as the teachers are told it, rule by rule, by the paper's and by the authors' rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigos_cli.method.reference_text import CODE, PAPER, reference_text
from vigos_cli.types import Sample

ROWS = {  # rule: (answer of a row, with rules="paper", with rules="code")
    "fence": [
        ('```json\n{"a": 1}\n```', '{"a": 1}', '{"a": 1}'),
        ("```B```", "B", "B"),
        ("x\n```\nred\n```\nfor sure", "x\n\nred\n\nfor sure", "red"),  # the text around it
        ("```red\n```", "red", "red"),  # the answer, and no name of a language
        ("```c++\nx = 1\n```", "x = 1", "x = 1"),
        ("```red", "red", "```red"),  # a fence that stays open is no fence by the authors' rules
    ],
    "tag": [
        ("<answer>B</answer>", "B", "B"),
        ("It is <answer>B</answer>, I think", "It is B, I think", "B"),
        ("<answer>A</answer> or <answer>B</answer>", "A or B", "A"),
        ("<answer>B", "B", "<answer>B"),
    ],
    "box": [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "\\frac{1}{2}"),
        ("The answer is \\boxed{4} cm.", "The answer is 4 cm.", "4"),
        ("\\boxed{2} or \\boxed{3}", "2 or 3", "2"),
        ("\\boxed{\\boxed{3}}", "3", "3"),
        ("\\boxed{a\\}", "\\boxed{a\\}", "a\\"),  # braces as in the authors' spans: segments.py:first_box
        ("\\boxed{4", "\\boxed{4", "\\boxed{4"),
    ],
    "label": [
        ("Answer: B", "B", "B"),
        (" ANSWER : 4 cm", "4 cm", "4 cm"),
        ("Answer:\nAnswer: red", "red", "red"),
        ("The answer: B", "The answer: B", "The answer: B"),  # only at the start
        ("Answers: B", "Answers: B", "Answers: B"),
    ],
    "quotes": [
        ('"STOP"', '"STOP"', "STOP"),
        ("'red'", "'red'", "red"),
        ('"yes" and "no"', '"yes" and "no"', '"yes" and "no"'),  # no pair around the whole
        ('12"', '12"', '12"'),
        ("\"red'", "\"red'", "\"red'"),
    ],
    "backticks": [
        ("`B`", "B", "B"),
        ("`a` or `b`", "`a` or `b`", "`a` or `b`"),
        ("`B", "`B", "`B"),
    ],
    "several": [
        ('Answer: "B"', '"B"', "B"),
        ('"Answer: B"', '"Answer: B"', "B"),
        ("`Answer: B`", "B", "B"),
        ("so\n```\n<answer> \\boxed{4} </answer>\n```", "so\n\n 4", "4"),
        ("<answer>A</answer> \\boxed{B}", "A B", "A"),  # the order of the rules: fence, tag, box
        ("\\boxed{B} ```\nA\n```", "B \nA", "A"),
        ('\\boxed{"red"} car', '"red" car', "red"),
    ],
    "none": [("red", "red", "red"), ("  red car \n", "red car", "red car"), ("", "", "")],
}


@pytest.mark.parametrize(
    ("answer", "paper", "code"), [row for rows in ROWS.values() for row in rows], ids=lambda text: repr(text)
)
def test_the_answer_column_by_both_rules(answer: str, paper: str, code: str):
    sample = Sample("s", "q", answer, ())
    assert reference_text(sample) == paper
    assert reference_text(sample, rules="code") == code
    assert reference_text(sample, "solution") == paper  # there is no solution


def test_every_rule_has_rows():
    assert CODE.keys() | PAPER.keys() == ROWS.keys() - {"several", "none"}


SOLUTION = 'Answer: `1 + 1` is\n```\n"\\boxed{2}"\n```\n'


def test_a_solution_by_both_rules():
    """The paper's rules remove marks, but keep a label or backticks; the authors never read a solution."""
    sample = Sample("s", "q", "2", (), solution=SOLUTION)
    assert reference_text(sample, "solution") == 'Answer: `1 + 1` is\n\n"2"'
    assert reference_text(sample, "solution", "code") == SOLUTION.strip()
    assert reference_text(Sample("s", "q", "2", (), solution="`x`"), "solution") == "`x`"
    assert reference_text(sample) == reference_text(sample, rules="code") == "2"


marks = st.sampled_from(
    (
        "```",
        "```py\n",
        "<answer>",
        "</answer>",
        "\\boxed{",
        "{",
        "}",
        "\\}",
        "Answer:",
        "answer :",
        '"',
        "'",
        "`",
    )
)
answers = st.lists(marks | st.sampled_from(("red", "4", " ", "\n", "é")), max_size=10).map("".join)


@pytest.mark.parametrize("rules", ["paper", "code"])
@given(answer=answers)
def test_a_second_pass_changes_nothing(rules: str, answer: str):
    told = reference_text(Sample("s", "q", answer, ()), rules=rules)
    assert reference_text(Sample("s", "q", told, ()), rules=rules) == told == told.strip()


@given(answer=answers)
def test_the_authors_rules_only_cut_at_both_ends(answer: str):
    assert reference_text(Sample("s", "q", answer, ()), rules="code") in answer
