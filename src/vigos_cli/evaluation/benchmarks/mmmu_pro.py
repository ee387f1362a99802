"""MMMU-Pro, test: 1,730 questions with 1 to 12 options, as text or as pictures.

There are two tasks. In `mmmu_pro`, the standard part, question and options are text; in `mmmu_pro_vision`
question, options and figures are one picture. `bench=mmmu_pro_standard` and `bench=mmmu_pro_vision` choose
one of them, `bench=mmmu_pro` both.

    standard  id  question  options  image_1 .. image_7  answer  subject      as MMMU
    vision    id  options   image    answer  subject                          no question text

The official protocol asks for a last line `Answer: X`. Here the group `prompt` determines the form of the
answer, so this adapter only says that the answer is a letter. Such a last line is understood all the same,
also by `scorer=official`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.benchmarks.mmmu import MMMU
from vigos_cli.evaluation.row_parsing import list_field, required_field, text_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.question_options import letter
from vigos_cli.types import Sample, Verdict


class Pro(MMMU):
    """The adapter of `mmmu_pro`, in which every question is multiple choice."""

    groups = {"subject": lambda sample: sample.family}  # noqa: RUF012

    def by_official(self, fields: Mapping[str, Any], response: str) -> Verdict:
        """Grade by the official rules, which first look for a last line `Answer: X`."""
        from vigos_cli.grading.official import official_mmmu_pro

        return official_mmmu_pro(fields, response)


class Vision(Pro):
    """The adapter of `mmmu_pro_vision`, in which the question is part of the picture."""

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample; its options are used only for grading and are not in the prompt."""
        name, options, answer = (
            required_field(row, "id"),
            list_field(row.get("options")),
            text_field(row, "answer"),
        )
        if answer not in map(letter, range(len(options))):
            raise BadRow("answer_not_an_option")
        yield Sample(
            id=name,
            question="Answer the question in the image.",
            answer=answer,
            images=reader.image(row.get("image"), name),
            options=tuple(options),
            family=text_field(row, "subject"),
            fields={"answer": answer, "options": options, "question_type": "multiple-choice"},
        )

    def prompt(self, sample: Sample) -> str:
        """A prompt without the options, because they are in the picture."""
        return f"{sample.question} The answer is the letter of one of its options."


STANDARD = Pro("mmmu_pro", "id", ("id", "question", "options", "answer"))
VISION = Vision("mmmu_pro_vision", "id", ("id", "options", "answer"))
