"""MMMU, validation: 900 college questions in 30 subjects, with one to seven pictures.

    id                        question                   options            image_1 .. image_7  answer
    "validation_Accounting_1" "<image 1> Baxter ..."     "['$6', '$7']"     <picture>, None ..  "B"

`options` is a list written as a string. `answer` is a letter (A to I); for an open question it is a text, or
a list of texts that is also written as a string. A mark `<image 2>` means the column image_2, and may occur
in an option. All pictures of a row are shown, in the order of their columns. The mark becomes `[image 2]`; if
an earlier column is empty, it becomes the number of the picture as the model sees it.

`scorer=official` uses the official parser; where that parser draws a letter at random, the verdict here is
unparsed. It expects responses in the benchmark's own format, so of a response in our format it gets only the
answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import list_field, question_and_images, required_field, text_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.question_options import letter
from vigos_cli.grading.response_verdicts import best, by_grading, by_letter
from vigos_cli.types import Sample, Verdict

PICTURES = range(1, 8)


class MMMU(Adapter):
    """The adapter of MMMU; see the module docstring."""

    official = True
    groups = {  # noqa: RUF012
        "subject": lambda sample: sample.family,
        "question type": lambda sample: sample.fields["question_type"],
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample."""
        name, answer = required_field(row, "id"), row.get("answer")
        options = list_field(row.get("options"))
        if options and (not isinstance(answer, str) or answer not in map(letter, range(len(options)))):
            raise BadRow("answer_not_an_option")
        golds = list_field(answer, "answer") if _is_list(answer) else [text_field(row, "answer")]
        pictures = {i: row[f"image_{i}"] for i in PICTURES if row.get(f"image_{i}") is not None}
        if not pictures:
            reader.image(None, name)
        item = question_and_images(pictures, required_field(row, "question"), options, name, reader)
        yield Sample(
            id=name,
            **item,
            answer=golds[0] if golds else "",
            family=text_field(row, "subject") or name.split("_", 1)[-1].rsplit("_", 1)[0],
            fields={
                "answer": golds if len(golds) != 1 else golds[0],
                "options": list(item["options"]),  # as the model sees them
                "question_type": "multiple-choice" if options else "open",
            },
        )

    def hint(self, sample: Sample) -> str:
        """Ask for a letter, or for a word or phrase."""
        return super().hint(sample) or "The answer is a single word, a number or a short phrase."

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Our rule (right if any gold answer matches), or the official rules on the whole response."""
        if scorer == "official":
            from vigos_cli.grading.extract import framed

            answer = framed(response)
            return self.by_official(sample.fields, response if answer is None else answer)
        golds = sample.fields["answer"]
        if sample.options:
            return by_letter(golds, response, sample.options)
        return best(by_grading(gold, response) for gold in ([golds] if isinstance(golds, str) else golds))

    def by_official(self, fields: Mapping[str, Any], response: str) -> Verdict:
        """Grade by the official rules."""
        from vigos_cli.grading.official import official_mmmu

        return official_mmmu(fields, response)

    def golds(self, sample: Sample) -> tuple[str, ...]:
        """All gold answers."""
        golds = sample.fields["answer"]
        return tuple(gold for gold in ([golds] if isinstance(golds, str) else golds) if gold)


def _is_list(answer: object) -> bool:
    return isinstance(answer, list | tuple) or (isinstance(answer, str) and answer.strip().startswith("["))


BENCH = MMMU("mmmu", "id", ("id", "question", "options", "answer"))
