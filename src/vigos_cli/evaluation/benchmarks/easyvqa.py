"""easy-VQA: questions about coloured shapes, the test part of the package `easy-vqa`.

    question                          answer      image
    "what is the red shape?"          "triangle"  data/test/images/0.png
    "is there not a black shape ..?"  "yes"

The pictures and questions come from another project, and are small enough for every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import paragraphs, required_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.response_verdicts import answer_of, by_word, no_answer
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.errors import UserError

KINDS = {
    "yes or no": ("yes", "no"),
    "shape": ("circle", "rectangle", "triangle"),
    "color": ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow"),
}


def _kind(answer: str) -> str:
    return next((kind for kind, answers in KINDS.items() if answer in answers), "other")


class EasyVQA(Adapter):
    """The adapter of easy-VQA; see the module docstring."""

    groups = {"kind": lambda sample: sample.family}  # noqa: RUF012

    def own_rows(self) -> tuple[Sequence[Row], Path]:
        """The test questions of the package. Raises UserError if it is not installed."""
        try:
            import easy_vqa  # type: ignore[import-not-found]
        except ImportError as error:
            raise UserError("bench easyvqa needs the package easy-vqa: pip install easy-vqa") from error
        paths = easy_vqa.get_test_image_paths()
        rows = [
            {"question": question, "answer": answer, "image": paths[image], "image_id": image}
            for question, answer, image in zip(*easy_vqa.get_test_questions(), strict=True)
        ]
        return rows, Path(easy_vqa.__file__).parent

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample, in the cluster of its picture."""
        answer = required_field(row, "answer").casefold()
        yield Sample(
            id=str(index),
            question=required_field(row, "question"),
            answer=answer,
            images=reader.image(row.get("image"), str(index)),
            family=_kind(answer),
            group=required_field(row, "image_id"),
        )

    def prompt(self, sample: Sample) -> str:
        """The question and the form of its answer."""
        return paragraphs(sample.question, "The answer is one word.")

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept one of the words that can answer a question of this kind."""
        if sample.family in KINDS:
            return by_word(response.replace("grey", "gray"), sample.answer, KINDS[sample.family])
        answer = answer_of(response)
        if answer is None:
            return no_answer("word")
        right = answer.casefold().strip(" .") == sample.answer
        return Verdict("right" if right else "wrong", answer, "word", "the same word" if right else "another")

    def chance(self, sample: Sample) -> float | None:
        """The chance of a guess among the answers to questions of this kind."""
        return 1 / len(KINDS[sample.family]) if sample.family in KINDS else None


BENCH = EasyVQA("easyvqa", "row number", ("question", "answer", "image", "image_id"))
