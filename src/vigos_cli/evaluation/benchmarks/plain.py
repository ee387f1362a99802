"""Questions of your own, and re-packed copies of benchmarks.

    problem        answer             image or images        id, options or choices: where there are any
    "How many?"    "4" or ["4", ..]   a picture, or several  "q1", ["3", "4"]

The column `problem` may also be called `question`, and `images` may be split into `image_1`, `image_2`, ... A
row may also be a conversation, as in training (`vigos_cli.data.chat_rows`).

Pictures stand before the question, or at its marks `<image>` if there are as many as pictures; any other
number of marks is the fault `image_marks`. The mark `<image 2>` names the second picture. Data without any
column of pictures has none by design: its items are counted, and a mark `<image>` in them is ordinary text.
In other data a row without a picture is an error, and so is a mark that names a picture which is not there.

Several answers are alternatives. They are given as a list, or as a list of texts in one string
(`"['4', 'four']"`; but `"[1, 2]"` is one answer). The options may stand in columns (`benchmarks/options.py`),
or in the question if the answer is a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vigos_cli.data.chat_rows import chat_of, read_chat
from vigos_cli.data.image_marks import MARK, read_marks
from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.benchmarks.options import read_options
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import (
    check_letter,
    labelled,
    list_field,
    paragraphs,
    question_and_images,
    required_field,
    text_field,
)
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.question_options import options_for
from vigos_cli.grading.response_verdicts import best, by_grading
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.errors import UserError, nearest

TEXTS = re.compile(r"\[\s*['\"]")
PICTURE = re.compile(r"images?|image_(\d+)")
NUMBERED = re.compile(r"<image\s*\d+>")


class Plain(Adapter):
    """The adapter of rows in the plain schema; see the module docstring."""

    groups = {"group": lambda sample: sample.family or "all"}  # noqa: RUF012

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample; if the row has no id, its number is used."""
        name, options = text_field(row, "id") or str(index), read_options(row)
        pictures, places = _pictures(row), ()
        if chat_of(row) is not None and not (row.get("problem") or row.get("question")):
            exchange = read_chat(row, list(pictures.values()))
            question, places = exchange.question, exchange.places
            pictures = dict(enumerate(exchange.images, 1))
            row = row if exchange.answer is None else {**row, "answer": exchange.answer}
            if not question and not pictures:
                raise BadRow("missing_question")
        else:
            question = required_field(row, "problem" if row.get("problem") is not None else "question")
        if "answer" not in row and "answer" not in reader.columns:
            there = ", ".join(list(row)[:12])
            raise UserError(f"{name}: no column 'answer'; {nearest('answer', row)}there are {there}")
        golds = _golds(row)
        check_letter(golds, options)
        if not pictures:
            marked = any(map(NUMBERED.search, (question, *options)))
            if marked or any(map(PICTURE.fullmatch, (*reader.columns, *row))):
                reader.image(None, name)
            elif reader.images:
                reader.without_picture += 1
        if not places:
            shown = len(pictures) or (0 if reader.images else question.count(MARK))
            question, places = self._places(question, options, shown)
        item = question_and_images(pictures, question, options, name, reader)
        if places and item["question"] != question:
            raise BadRow("image_marks")  # marks with numbers and without beside each other
        choices = options_for(golds[0] if golds else "", item["question"], item["options"])
        yield Sample(
            id=name,
            **item,
            places=places,
            answer=golds[0] if golds else "",
            fields={"answers": golds, "choices": choices},
        )

    def _places(self, question: str, options: list[str], pictures: int) -> tuple[str, tuple[int, ...]]:
        """The question without marks at its start, and the places of the marks in the whole prompt."""
        if not any(MARK in option for option in options):
            return read_marks(question, pictures)
        return question, read_marks(paragraphs(question, labelled(options)), pictures)[1]

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
        return list_field(answer, "answer")
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


BENCH = Plain("plain", "id", ())
