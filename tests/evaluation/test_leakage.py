"""Leakage: the check whether a description states the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vigos_cli.evaluation.leakage import caption_gold, first_description, leakage, states
from vigos_cli.types import Response, Sample


@pytest.mark.parametrize(
    ("description", "answer", "stated"),
    [
        ("A red hat.", "red", True),
        ("A RED, hat", "Red.", True),
        ("A reddish hat.", "red", False),
        ("a dark red hat", "dark red", True),
        ("red and dark", "dark red", False),
        ("It costs 3.5 dollars", "3", False),
        ("There are 3.", "3", True),
        ("anything", "", False),
        ("anything", "?!", False),
    ],
)
def test_an_answer_is_found_only_as_whole_words(description, answer, stated):
    assert states(description, answer) == stated


def test_a_description_is_the_text_between_its_tags():
    assert first_description("<description> a cat </description> <think>") == "a cat"
    for text in ("", "<description> a cat", "a cat </description>", "<description>  </description>"):
        assert first_description(text) is None


def test_a_letter_stands_for_its_option():
    assert caption_gold(Sample("a", "?", "B", (), options=("red", "blue"))) == "blue"
    assert caption_gold(Sample("a", "Which? A. red B. blue", "(B)", ())) == "blue"
    assert caption_gold(Sample("a", "Which?", "B", ())) is None
    assert caption_gold(Sample("a", "Which?", "blue", (), options=("red", "blue"))) == "blue"


def test_the_share_the_chance_and_their_intervals():
    answers = ["red", "red", "blue", "green"]
    samples = [Sample(str(i), "?", answer, ()) for i, answer in enumerate(answers)]
    said = ["red", "blue", "blue", None]  # others: blue, blue, green, red
    texts = [f"<description> {text} </description>" if text else "\\boxed{red}" for text in said]
    lines = [
        Response(str(i), draw=0, text=text, description="", answer="", valid=True, described=True, tokens=1)
        for i, text in enumerate(texts)
    ]
    found = leakage(samples, [*lines, replace(lines[0], sample_id="of another run")])
    assert found and (found["mean"], found["n"]) == (2 / 3, 3)
    assert found["low"] < 2 / 3 < found["high"]
    assert found["chance"]["mean"] == 1 / 3
    assert leakage(samples, lines[3:]) is None
    assert leakage(samples[:2], lines) is None  # there is no other reference to compare with
