"""MATH-Vision, test (3,040) or testmini (304): problems of mathematics competitions.

    id    question                 options                 decoded_image  answer  level  subject
    "4"   "How many <image1> ..."  ["A", "B", ..] or []    <picture>      "C"     2      "counting"

The letter of the right option and its value both count as right. Options that are only letters name parts of
the picture. The official scorer runs `eval` on the model's text; this adapter never does.
"""

from __future__ import annotations

from collections.abc import Iterator

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import PLACE, letter, list_field, order_images, required_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.response_verdicts import by_grading, by_letter
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.errors import UserError


class MathVision(Adapter):
    """The adapter of MATH-Vision; see the module docstring."""

    groups = {  # noqa: RUF012
        "subject": lambda sample: sample.family,
        "level": lambda sample: sample.fields["level"],
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample. All marks of a text stand for the one picture that a row has."""
        name, question = required_field(row, "id"), required_field(row, "question")
        options, answer = list_field(row.get("options")), required_field(row, "answer")
        if options and answer not in map(letter, range(len(options))):
            raise BadRow("answer_not_an_option")
        texts = [PLACE.sub("<image1>", part) for part in (question, *options)]
        try:
            texts, _ = order_images(texts, [1])
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        yield Sample(
            id=name,
            question=texts[0],
            answer=answer,
            images=reader.image(row.get("decoded_image") or row.get("image"), name),
            options=tuple(texts[1:]),
            family=required_field(row, "subject"),
            fields={"level": str(row.get("level"))},
        )

    def hint(self, sample: Sample) -> str:
        """Ask for a letter, or for a value."""
        return super().hint(sample) or "The answer is a number or an expression."

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept the letter or the value of the right option; without options, a value."""
        if sample.options:
            return by_letter(sample.answer, response, sample.options)
        return by_grading(sample.answer, response)


BENCH = MathVision("mathvision", "id", ("id", "question", "options", "answer", "subject"))
