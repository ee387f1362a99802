"""RealWorldQA, test: 765 questions about photographs, many from a car.

    image      question                                                          answer
    <picture>  "...facing?\\nA. Left\\nB. Straight\\nC. Right\\nPlease answer ..."   "C"
    <picture>  "How many lights ...? Please answer directly with a ... number."    "2"

Question, options and the instruction about the answer are one text, which is used unchanged. In some rows a
label has no dot (`B Only cars`), and in some the answer is the text of an option instead of its letter. Rows
have no id; their number, from 0, is used.
"""

from __future__ import annotations

from collections.abc import Iterator

from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import required_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.question_options import inlined, letter
from vigos_cli.grading.response_verdicts import by_grading, by_letter
from vigos_cli.types import Sample, Verdict


class RealWorldQA(Adapter):
    """The adapter of RealWorldQA; see the module docstring."""

    groups = {  # noqa: RUF012
        "question type": lambda sample: "choice" if sample.options else "open",
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample; it has options only if the answer is the letter or the text of one."""
        question, answer = required_field(row, "question"), required_field(row, "answer").rstrip(".")
        options = inlined(question)
        labels = [letter(i) for i in range(len(options))]
        named = [label for label, option in zip(labels, options, strict=True) if _same_text(option, answer)]
        if answer not in labels and len(named) == 1:
            (answer,) = named
        chosen = answer in labels
        yield Sample(
            id=str(index),
            question=question,
            answer=answer,
            images=reader.image(row.get("image"), str(index)),
            options=options if chosen else (),
        )

    def prompt(self, sample: Sample) -> str:
        """The unchanged question."""
        return sample.question

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept the letter or the text of the right option; without options, a number or a text."""
        if sample.options:
            return by_letter(sample.answer, response, sample.options)
        return by_grading(sample.answer, response)


def _same_text(option: str, answer: str) -> bool:
    return option.rstrip(".").casefold() == answer.casefold()


BENCH = RealWorldQA("realworldqa", "row number", ("question", "answer"))
