"""Responses that show one kind of grading fault each, with the verdict that a careful reader gives.

`cases/reported.jsonl` has the reported pairs. The pairs of `cases/further.jsonl` and `cases/unseen.jsonl`
show the same kinds in other words; they were written without knowledge of the grader, and about half of
them are right. The rules were written with the further pairs in view. Of the 174 unseen ones 164 had the
expected verdict when they were first graded.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from vigos_cli.grading import grade

CASES = [
    pytest.param(json.loads(line), id=f"{path.stem}-{number}")
    for path in sorted(Path(__file__).with_name("cases").glob("*.jsonl"))
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
]


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict) -> None:
    start = time.process_time()
    verdict = grade(case["gold"], case["response"], choices=case.get("choices", ()))
    assert (verdict.verdict == "right") == (case["want"] == "right"), (case["kind"], case["why"], verdict)
    assert time.process_time() - start < 1
