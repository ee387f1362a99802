"""MMSI-Bench, test: 1,000 questions about several pictures, in 11 types.

Guessing scores 25 %.

    id  images                question_type                        question                        answer
    0   [bytes, bytes, ...]   "Positional Relationship (Cam.-..."   "... Options: A: .., B: .., .."  "B"

The question contains the options. The official protocol asks for the letter in backticks.
"""

from __future__ import annotations

from collections.abc import Iterator

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import paragraphs, required_field, without_marks
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.question_options import inlined, letter
from vigos_cli.grading.response_verdicts import answer_of, by_letter, no_answer
from vigos_cli.types import Sample, Verdict

LETTERS = tuple(map(letter, range(4)))


class MMSI(Adapter):
    """The adapter of MMSI-Bench; see the module docstring."""

    groups = {"type": lambda sample: sample.family}  # noqa: RUF012

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample with all its pictures."""
        name, answer = required_field(row, "id"), required_field(row, "answer").strip("`() .")
        question, pictures = without_marks(required_field(row, "question")), row.get("images")
        if answer not in LETTERS:
            raise BadRow("answer_not_an_option")
        if not isinstance(pictures, list | tuple) or not pictures:
            pictures = [pictures]
        yield Sample(
            id=name,
            question=question,
            answer=answer,
            images=tuple(picture for raw in pictures for picture in reader.image(raw, name)),
            options=inlined(question.split("Options:")[-1]),
            family=required_field(row, "question_type").replace("–", "-"),  # copies differ in the dash
        )

    def prompt(self, sample: Sample) -> str:
        """The unchanged question, and the form of the answer."""
        return paragraphs(sample.question, "The answer is the letter of one option, in backticks: `A`.")

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept the letter (with or without backticks) or the text of the right option."""
        answer = answer_of(response)
        if answer is None:
            return no_answer("choice")
        options = sample.options if len(sample.options) == len(LETTERS) else LETTERS
        return by_letter(sample.answer, answer.replace("`", " ").strip(), options)

    def chance(self, sample: Sample) -> float:
        """One quarter, because every question has four options."""
        return 1 / len(LETTERS)


BENCH = MMSI("mmsi", "id", ("id", "images", "question_type", "question", "answer"))
