"""Questions of your own, and re-packed copies of benchmarks.

    problem        answer             image or images        id, options or choices: where there are any
    "How many?"    "4" or ["4", ..]   a picture, or several  "q1", ["3", "4"]

The column `problem` may also be called `question`, and `images` may be split into `image_1`, `image_2`, ..;
the mark `<image 2>` refers to the second picture. Several answers are alternatives. They are given as a list,
or as a list of texts in one string (`"['4', 'four']"`; but `"[1, 2]"` is one answer). If the answer is a
letter, the options may be listed in the question. Data without any picture column has no pictures by design,
and its items are counted. In other data a row without a picture is an error, and so is a mark without its
picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import (
    list_field,
    options_for,
    question_and_images,
    required_field,
    text_field,
    without_marks,
)
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.response_verdicts import best, by_grading
from vigos_cli.types import Sample, Verdict

TEXTS = re.compile(r"\[\s*['\"]")
PICTURE = re.compile(r"images?|image_(\d+)")
MARK = re.compile(r"<image\s*\d*>")


class Plain(Adapter):
    """The adapter of rows in the plain schema; see the module docstring."""

    groups = {"group": lambda sample: sample.family or "all"}  # noqa: RUF012

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample; if the row has no id, its number is used."""
        name, golds = text_field(row, "id") or str(index), _golds(row)
        options = list_field(row.get("options") or row.get("choices"))
        question = required_field(row, "problem" if "problem" in row else "question")
        pictures = _pictures(row)
        if not pictures:
            marked = any(map(MARK.search, (question, *options)))
            if marked or any(map(PICTURE.fullmatch, (*reader.columns, *row))):
                reader.image(None, name)
            elif reader.images:
                reader.without_picture += 1
        item = question_and_images(pictures, without_marks(question), options, name, reader)
        choices = options_for(golds[0] if golds else "", item["question"], item["options"])
        yield Sample(
            id=name,
            **item,
            answer=golds[0] if golds else "",
            fields={"answers": golds, "choices": choices},
        )

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Right if any of the answers matches."""
        golds = sample.fields["answers"] or [""]
        return best(by_grading(gold, response, sample.fields["choices"]) for gold in golds)

    def golds(self, sample: Sample) -> tuple[str, ...]:
        """All answers."""
        return tuple(gold for gold in sample.fields["answers"] if gold)

    def chance(self, sample: Sample) -> float | None:
        """The chance of a guess among the options, also if only the question lists them."""
        return 1 / len(sample.fields["choices"]) if sample.fields["choices"] else None


def _golds(row: Row) -> list[str]:
    answer = row.get("answer")
    if isinstance(answer, list | tuple):
        return [str(gold).strip() for gold in answer]
    whole = text_field(row, "answer")
    return list_field(whole, "answer") if TEXTS.match(whole) else [whole]


def _pictures(row: Row) -> dict[int, Any]:
    """The pictures of a row by number: counted from 1, or numbered like their columns."""
    pictures = row.get("images") if row.get("images") is not None else row.get("image")
    if pictures is None:
        columns = [match for match in map(PICTURE.fullmatch, row) if match and match[1]]
        there = {int(match[1]): row[match[0]] for match in columns if row[match[0]] is not None}
        return dict(sorted(there.items()))
    return dict(enumerate(pictures if isinstance(pictures, list | tuple) else [pictures], 1))


BENCH = Plain("plain", "id", ("answer",))
