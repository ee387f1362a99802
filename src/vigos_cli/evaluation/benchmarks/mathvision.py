"""MATH-Vision, test (3,040) or testmini (304): problems of mathematics competitions.

    id    question                 options                 decoded_image  answer  level  subject
    "4"   "How many <image1> ..."  ["A", "B", ..] or []    <picture>      "C"     2      "counting"

The letter of the right option and its value both count as right. Options that are only letters name parts of
the picture. A row has one picture. A mark `<image2>` in its texts stands for a part of this picture and is
shown to the model as `[image 2]`. The official scorer runs `eval` on the model's text; this adapter never
does.
"""

from __future__ import annotations

from collections.abc import Iterator

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import list_field, required_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.question_options import letter
from vigos_cli.grading.response_verdicts import by_grading, by_letter
from vigos_cli.types import Sample, Verdict


class MathVision(Adapter):
    """The adapter of MATH-Vision; see the module docstring."""

    groups = {  # noqa: RUF012
        "subject": lambda sample: sample.family,
        "level": lambda sample: sample.fields["level"],
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample. Its marks get their own numbers, so that options which are pictures stay distinct."""
        name, question = required_field(row, "id"), required_field(row, "question")
        options, answer = list_field(row.get("options")), required_field(row, "answer")
        if options and answer not in map(letter, range(len(options))):
            raise BadRow("answer_not_an_option")
        yield Sample(
            id=name,
            question=question,
            answer=answer,
            images=reader.image(row.get("decoded_image") or row.get("image"), name),
            options=tuple(options),
            family=required_field(row, "subject"),
            fields={"level": str(row.get("level"))},
        )

    def hint(self, sample: Sample) -> str:
        """Ask for a letter, or for a value; some rows without options ask for a letter in the picture."""
        return super().hint(sample) or "The answer is a number, an expression or a letter."

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept the letter or the value of the right option; without options, a value."""
        if sample.options:
            return by_letter(sample.answer, response, sample.options)
        return by_grading(sample.answer, response)


BENCH = MathVision("mathvision", "id", ("id", "question", "options", "answer", "subject"))
