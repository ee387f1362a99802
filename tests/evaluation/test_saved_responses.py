"""Responses that other programs saved are matched to the items they belong to, or refused with one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vigos_cli.config.compose import job
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.utils.errors import UserError

ITEMS = [
    {"id": "a", "problem": "1 + 1?", "answer": "2"},
    {"id": "b", "problem": "Colour?", "answer": "red"},
    {"id": "c", "problem": "Yes or no?", "answer": "yes"},
]


def graded(folder: Path, name: str, content: str | bytes, bench: str = "plain") -> dict[str, str]:
    """The verdict on each item for a file of responses."""
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)))
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    overrides = [f"bench={bench}", f"bench.path={folder / 'items.jsonl'}", f"responses={folder / name}"]
    evaluate(job("eval", [*overrides, f"out={folder / 'out'}"]))  # type: ignore[arg-type]
    lines = (folder / "out" / "verdicts.jsonl").read_text().splitlines()
    return {line["id"]: line["verdict"] for line in map(json.loads, lines)}


def lmms(doc_id: int, said: Any, target: Any, **more: Any) -> dict[str, Any]:
    """A line that lmms-eval logs."""
    return {"doc_id": doc_id, "target": target, "resps": said, "filtered_resps": ["other"], **more}


def logged(*lines: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, lines))


RIGHT = {"a": "right", "b": "wrong", "c": "right"}


def test_the_samples_of_lmms_eval_are_matched_to_rows(tmp_path, capsys):
    lines = [lmms(2, [["Yes."]], "yes"), lmms(0, [["It is 2."]], "2"), lmms(1, [["blue"]], "red")]
    assert graded(tmp_path, "samples.jsonl", logged(*lines)) == RIGHT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("said", ["2", ["2"], [["2"]], [[["2"]]]])
def test_responses_of_lmms_eval_may_stand_in_lists_of_lists(tmp_path, said):
    assert graded(tmp_path, "samples.jsonl", logged(lmms(0, said, "2")))["a"] == "right"


def test_lines_of_lmms_eval_without_raw_responses_or_with_several_filters(tmp_path):
    line = {"doc_id": 0, "target": "2", "filtered_resps": ["2"], "filter": "none"}
    assert graded(tmp_path, "samples.jsonl", logged(line, {**line, "filter": "strip"}))["a"] == "right"


def test_an_id_in_the_document_of_lmms_eval_counts_before_its_number(tmp_path):
    lines = [lmms(0, [["Yes."]], "yes", doc={"id": "c"}), lmms(1, [["2"]], "2", doc={"id": "a"})]
    assert graded(tmp_path, "samples.jsonl", logged(*lines)) == {"a": "right", "b": "unparsed", "c": "right"}


def test_rows_in_another_order_than_those_of_lmms_eval_are_refused_or_counted(tmp_path, capsys):
    turned = [lmms(0, [["red"]], "red"), lmms(1, [["2"]], "2")]
    with pytest.raises(UserError, match=r"no target is the correct answer .* another order"):
        graded(tmp_path, "samples.jsonl", logged(*turned))
    graded(tmp_path, "samples.jsonl", logged(lmms(0, [["2"]], "2"), lmms(1, [["blue"]], "blue")))
    assert "plain: the file states another target than the rows for 1 of 2 items" in capsys.readouterr().err


def test_a_number_without_a_row_is_counted(tmp_path):
    graded(tmp_path, "samples.jsonl", logged(lmms(0, [["2"]], "2"), lmms(9, [["2"]], "2")))
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (scores["missing"], scores["unknown"]) == (2, 1)


@pytest.mark.parametrize(("name", "separator"), [("sheet.csv", ","), ("sheet.tsv", "\t")])
@pytest.mark.parametrize("column", ["index", "id"])
def test_the_sheets_of_vlmevalkit_are_read(tmp_path, name, separator, column):
    said = {"a": '"line one\nso 2"', "b": '"blue"', "c": "Yes."}
    lines = [separator.join((column, "question", "prediction"))]
    lines += [separator.join((id, '"?"', text)) for id, text in said.items()]
    assert graded(tmp_path, name, b"\xef\xbb\xbf" + "\r\n".join(lines).encode()) == RIGHT


def test_an_empty_prediction_is_a_missing_response(tmp_path):
    found = graded(tmp_path, "sheet.csv", "index,prediction\na,2\nb,\n")
    assert found == {"a": "right", "b": "unparsed", "c": "unparsed"}


def test_a_long_prediction_is_read(tmp_path):
    assert graded(tmp_path, "sheet.csv", f"index,prediction\na,{'so ' * 100_000}2\n")["a"] == "right"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("s.xlsx", b"PK\3\4", "is an Excel sheet: save it as CSV"),
        ("s.jsonl", '{"id": "a"}'.encode("utf-16"), "is text in UTF-16: save it as UTF-8"),
        ("s.jsonl", b"\x1f\x8b\x08", "is a gzip file: unpack it"),
        ("s.csv", "index,answer\na,2\n", "line 2: not an object with id and response"),
        ("s.csv", "index,prediction\na,2\na,3\n", "line 3: a second line for a"),
        ("s.jsonl", '{"doc_id": 0, "resps": [[[-1.5, false]]]}', "line 1: not an object"),
        ("s.jsonl", '{"doc_id": 0}', "line 1: not an object"),
        ("s.jsonl", '{"doc_id": "x", "resps": ["a"]}', "line 1: not an object"),
        ("s.jsonl", '{"doc_id": 0, "resps": ' + "[" * 900 + "]" * 900 + "}", "line 1: not an object"),
        ("s.jsonl", '[1, "sample_id"]', "line 1: not an object"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_one_line_error(tmp_path, name, content, says):
    with pytest.raises(UserError, match=says) as error:
        graded(tmp_path, name, content)
    assert "\n" not in str(error.value)
