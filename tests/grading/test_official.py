"""The official rules of MathVista, MMMU and MMMU-Pro on our own rows, and the table of agreement."""

from __future__ import annotations

import json

import pytest
from tools.official_agreement import Mistake, main

from vigos_cli.grading import official_mathvista, official_mmmu
from vigos_cli.grading.official import mmmu_candidates, mmmu_letter, mmmu_pro_letter, official_mmmu_pro
from vigos_cli.grading.official_vilp import official_vilp, official_word

OPTIONS = {"A": "red", "B": "blue", "C": "dark green"}


def choice(answer: str, choices: list[str]) -> dict:
    return {"question_type": "multi_choice", "answer_type": "text", "answer": answer, "choices": choices}


@pytest.mark.parametrize(
    ("answer", "extraction", "right"),
    [
        ("blue", "B", True),
        ("blue", "(B) anything", True),
        ("blue", "(b)", True),
        ("blue", "blur", True),  # the nearest
        ("red", "", True),  # an empty extraction is taken for the nearest: the shortest
        ("red", None, True),
        ("red", "b", True),  # a bare small letter is no label, and is nearer to red than to blue
        ("blue", "A", False),
    ],
)
def test_mathvista_options(answer: str, extraction: str | None, right: bool) -> None:
    verdict = official_mathvista(choice(answer, ["red", "blue"]), extraction)
    assert (verdict.verdict == "right") is right


def test_mathvista_duplicates_and_options_that_look_like_letters() -> None:
    assert official_mathvista(choice("18", ["9", "18", "18"]), "C").verdict == "right"
    assert official_mathvista(choice("(b)", ["(c)", "(a)", "(b)"]), "C").verdict == "right"
    assert official_mathvista(choice("(b)", ["(c)", "(a)", "(b)"]), "(b)").extracted == "(a)"


@pytest.mark.parametrize(
    ("kind", "precision", "answer", "extraction", "right"),
    [
        ("integer", None, "3", "3.7", True),
        ("integer", None, "3000", "3,000", False),
        ("integer", None, "50", "50%", False),
        ("integer", None, "5", "inf", False),
        ("integer", None, "5", "nan", False),
        ("integer", None, "5", "", False),
        ("float", 2, "0.21", "0.214", True),
        ("float", 1, "13.8", "13.80", True),
        ("float", 1, "13.8", "13.9", False),
        ("float", 1, "13.8", "a lot", False),
        ("list", None, "[1, 2]", "[1, 2]", True),
        ("list", None, "[1, 2]", "[1,2]", False),
    ],
)
def test_mathvista_free_form(kind, precision, answer, extraction, right) -> None:
    row = {"question_type": "free_form", "answer_type": kind, "answer": answer, "precision": precision}
    assert (official_mathvista(row, extraction).verdict == "right") is right


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("(A) or rather (C)", "C"),
        ("I say B , not (A)", "A"),  # brackets come before blanks
        ("it is A or B", "B"),
        ("B.", "B"),
        ("After some thought I say it is dark green", "C"),
        ("Red, then blue, then red in the end", "A"),
        ("dark green", None),  # too short for an option's text
        ("", None),
    ],
)
def test_mmmu_letter(response: str, letter: str | None) -> None:
    assert mmmu_letter(response, OPTIONS)[0] == letter
    verdict = official_mmmu({"answer": "C", "index2ans": OPTIONS}, response)
    assert verdict.verdict == ("unparsed" if letter is None else "right" if letter == "C" else "wrong")


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("(A) is out.\nAnswer: C", "C"),
        ("Answer: A\nNo.\nAnswer: (C).", "C"),  # the last one
        ("Answer: Because", "B"),  # in whatever word
        ("(A) it is. answer: C", "A"),
        ("Answer: B or C", "C"),  # not the only one: of the whole response, the last
        ("(A), I think. Answer: dark green", "A"),
        ("I say B , not (A)", "A"),
        ("B.", "B"),
        ("it is B. Not that other thing", "B"),
        ("after some thought: C. Or rather A. Yes", "A"),  # the first option, wherever it stands
        ("USA here", "A"),
        ("the USA , so B", "B"),
        ("After some thought I say it is dark green", "C"),
        ("dark green", None),
        ("", None),
    ],
)
def test_mmmu_pro_letter(response: str, letter: str | None) -> None:
    assert mmmu_pro_letter(response, OPTIONS)[0] == letter
    verdict = official_mmmu_pro({"answer": "C", "index2ans": OPTIONS}, response)
    assert verdict.verdict == ("unparsed" if letter is None else "right" if letter == "C" else "wrong")


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [
        ("1.5", "So the length is 1.499", True),
        ("1000", "It is 1,000 dollars.", True),
        ("transformation", "The process is bacterial transformation.", True),
        ("['Tampa', 'Florida']", "This is Florida", True),
        ("A", "A", True),
        ("A", "Apple", False),
        ("5", "x = 4\nx = 5", True),
        ("5", "The number is 6.", False),
    ],
)
def test_mmmu_open(answer: str, response: str, right: bool) -> None:
    assert (official_mmmu({"answer": answer}, response).verdict == "right") is right


@pytest.mark.parametrize(
    ("answer", "compared"),
    [
        ("Glasses.", "glasses"), ("binoculars", "glasses"), ("crystal", "glass"), ("striped", "stripe"),
        ("lollipops", "lolipop"), ("candy", "lolipop"), ("Twenty", "20"), ("twenty-one", "twenty-one"),
        ("co2", "carbon dioxide"), ("carbon dioxide", "carbondioxide"), ("logs", "wood"), ("trees", "tree"),
        ("tables", "tables"), ("T-Rex", "dinosaur"), ("two leaves", "two leaves"),
    ],
)  # fmt: skip
def test_vilp_words(answer: str, compared: str) -> None:
    assert official_word(answer) == compared


def test_vilp_none_is_never_right() -> None:
    assert official_vilp("none", "None").verdict == "wrong"
    assert official_vilp("U.S.A", "u.s.a").verdict == "wrong"  # dots inside an answer are removed only there


def test_options_written_as_a_string_are_read_and_never_run() -> None:
    assert official_mmmu({"answer": "B", "options": "['x', 'y']"}, "(B)").verdict == "right"
    assert official_mmmu({"answer": "[__import__('os')]"}, "(B)").verdict == "wrong"


@pytest.mark.parametrize("text", ["9" * 1_000_000, "1." * 500_000, "so " * 300_000, "\x00\ud800", "1e999"])
def test_long_responses_are_read_in_time(text: str) -> None:
    assert mmmu_candidates(text)
    official_mmmu({"answer": "B", "index2ans": OPTIONS}, text)
    official_mmmu_pro({"answer": "B", "index2ans": OPTIONS}, text)
    assert official_mathvista(choice("x", ["y" * 50] * 5), text).verdict == "wrong"


def test_agreement_prints_tables(tmp_path, capsys) -> None:
    row = {"system": "s", "unit": None, "precision": None}
    rows = [
        {
            **row,
            **choice("red", ["red", "blue"]),
            "pid": "1",
            "response": "(A)",
            "extraction": "A",
            "true_false": True,
        },
        {
            **row,
            **choice("red", ["red", "blue"]),
            "pid": "2",
            "response": "?",
            "extraction": "",
            "true_false": True,
        },
    ]
    path = tmp_path / "mathvista.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main([str(path)])
    out = capsys.readouterr().out
    assert "| official, of the published extraction | 2 | 2 | 100.00% | 2 | 0 |" in out
    assert "| ours, of the published extraction | 2 | 1 | 50.00% | 1 | 1 |" in out

    common = {"id": "i", "question_type": "multiple-choice", "answer": "A", "index2ans": OPTIONS}
    rows = [
        {**common, "response": "(A)", "official_parsed": "A"},
        {**common, "response": "no idea", "official_parsed": "C"},
        {**common, "question_type": "short-answer", "answer": "5", "response": "5", "official_parsed": "5.0"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main([str(path)])
    out = capsys.readouterr().out
    assert "| all not drawn at random | 2 | 2 | 100.00% |" in out and "Drawn at random: 1 rows" in out

    path.write_text("{}\n")
    with pytest.raises(Mistake, match="neither"):
        main([str(path)])
