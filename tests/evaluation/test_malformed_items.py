"""Rows of benchmarks with odd values are left out under a rule, or refused with one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bench_fixtures as data
import pytest

from vigos_cli.config.compose import job
from vigos_cli.evaluation import benchmark_rows, registry
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.types import Sample
from vigos_cli.utils.errors import UserError

PLAIN = {"id": "q", "problem": "Which?", "answer": "B", "image": data.cell("red"), "choices": ["red", "blue"]}


def read(name: str, row: dict[str, Any], **columns: Any) -> tuple[list[Sample], list[str]]:
    """The samples of a row with these columns, and the rules by which it was left out."""
    reader = RowReader(images=name != "vlind")
    return list(registry.get(name).samples([{**row, **columns}], reader)), list(reader.left_out)


@pytest.mark.parametrize(
    ("name", "row", "columns", "rule"),
    [
        ("plain", PLAIN, {"choices": [None, "blue"]}, "options_unreadable"),
        ("plain", PLAIN, {"choices": [{"a": 1}, "blue"]}, "options_unreadable"),
        ("plain", PLAIN, {"choices": [float("nan"), "blue"]}, "options_unreadable"),
        ("plain", PLAIN, {"choices": [str(i) for i in range(27)], "answer": "A"}, "too_many_options"),
        ("plain", PLAIN, {"answer": "C"}, "answer_not_an_option"),
        ("plain", PLAIN, {"answer": ["blue", None]}, "answer_unreadable"),
        ("plain", PLAIN, {"problem": "half a pair \ud800"}, "not_text"),
        ("plain", PLAIN, {"answer": float("inf")}, "not_text"),
        ("mathvista", data.MATHVISTA[1], {"answer": "(Q)"}, "answer_not_an_option"),
        ("mathvista", data.MATHVISTA[1], {"choices": [str(i) for i in range(60_000)]}, "too_many_options"),
        ("mathvista", data.MATHVISTA[3], {"answer_type": "words"}, "unknown_answer_type"),
        ("mathvista", data.MATHVISTA[3], {"metadata": {"skills": [["a"]]}}, "skills_unreadable"),
        ("mmvet", data.MMVET[0], {"capability": 5}, "capability_unreadable"),
        ("mmvet", data.MMVET[0], {"capability": [1, None]}, "capability_unreadable"),
        ("vlind", data.VLIND[0], {"aggregated_human_label_good_images": {"0": "3"}}, "votes_unreadable"),
        ("vilp_f", data.VILP[0], {"answer3": None}, "missing_answer3"),
    ],
)
def test_a_row_with_an_odd_value_is_left_out_as_a_whole(name, row, columns, rule):
    assert read(name, row)[1] == []
    assert read(name, row, **columns) == ([], [rule])


@pytest.mark.parametrize("answer", ["A", "(B)", "red", "5 cm"])
def test_only_a_letter_that_no_option_has_is_refused(answer):
    assert read("plain", PLAIN, answer=answer)[1] == []
    assert read("plain", PLAIN, answer="C", choices=["A", "C"])[1] == []


@pytest.mark.parametrize("precision", [1e300, 10**6, -2])
def test_an_absurd_precision_counts_as_none(precision):
    ((sample,), _) = read("mathvista", data.MATHVISTA[3], precision=precision)
    assert registry.get("mathvista").prompt(sample).endswith("The answer is a number.")


def test_a_message_is_one_line_whatever_the_id():
    with pytest.raises(UserError) as caught:
        read("plain", PLAIN, id="a\nb\x1b[31m" + "x" * 5000, image=None)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        benchmark_rows.open_rows(registry.get("plain"), data.task_of("plain", path=str(path)))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


def test_files_that_hold_no_rows_are_refused(tmp_path: Path):
    for name, content in (("empty", ""), ("words", "These are words.\n"), ("blank", "\n \n")):
        (tmp_path / f"{name}.jsonl").write_text(content)
        assert "has no rows" in refusal(tmp_path / f"{name}.jsonl")
    (tmp_path / "half.json").write_text(json.dumps([{"problem": "Q?"}])[:-3])
    assert "no JSON array" in refusal(tmp_path / "half.json")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "pipe" in refusal(tmp_path / "pipe.jsonl")
    assert "File name too long" in refusal(tmp_path / ("x" * 5000 + ".jsonl"))


def test_an_item_with_a_too_long_prompt_is_not_asked_and_does_not_stop_the_others(tmp_path: Path, capsys):
    data.picture("red").save(tmp_path / "p.png")
    rows = [
        {"id": name, "problem": text, "answer": "2", "image": "p.png"}
        for name, text in (("a", "1?"), ("b", "word " * 900))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = [
        "bench=plain",
        f"bench.path={tmp_path / 'rows.jsonl'}",
        f"out={tmp_path / 'out'}",
        "bench.samples=1",
    ]
    keys += ["bench.max_new_tokens=2", "model.max_prompt=500"]
    scores = evaluate(job("eval", keys))["plain"]  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "plain: 1 items were not asked and count as wrong, such as b: the prompt is too long" in said
    assert scores["refused"] == 2 and scores["accuracy"]["n"] == 2
    lines = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert {line["reason"].split(":")[0] for line in lines if line["id"] == "b"} == {"the prompt is too long"}
    assert all(line["rule"] != "missing" for line in lines if line["id"] == "a")
