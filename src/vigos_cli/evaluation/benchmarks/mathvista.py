"""MathVista, testmini: 1,000 questions about figures, charts and pictures.

    pid  question  decoded_image  choices  unit  precision  answer  question_type  answer_type  metadata
    "1"  ...       <picture>      None     "g"   1.0        "1.2"   free_form      float        {...}

A letter names a choice. The texts of the choices are compared, so a duplicate of the right choice is right as
well. A choice that looks like a letter itself, such as `(c)`, is meant if an answer is written exactly like
it. The official scorer (`scorer=official`) maps an answer that it cannot read to the choice with the smallest
edit distance, which alone scores 31 % on the multiple-choice questions; our rule leaves it unparsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import (
    check_letter,
    list_field,
    mapping_field,
    required_field,
    text_field,
    texts_field,
)
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.response_verdicts import answer_of, by_grading
from vigos_cli.types import Sample, Verdict

COLUMNS = ("pid", "question", "choices", "unit", "precision", "answer", "question_type", "answer_type")
HINTS = {
    "text": "The answer is a word or a short phrase.",
    "integer": "The answer is an integer, such as 1, 2 or 3.",
    "float": "The answer is a number.",
    "list": "The answer is a Python list, such as [1, 2, 3].",
}


class MathVista(Adapter):
    """The adapter of MathVista; see the module docstring."""

    official = True
    groups = {  # noqa: RUF012
        "question type": lambda sample: sample.fields["question_type"],
        "answer type": lambda sample: sample.fields["answer_type"],
        "task": lambda sample: sample.fields["task"],
        "skill": lambda sample: sample.fields["skills"],
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample."""
        pid, metadata = required_field(row, "pid"), mapping_field(row.get("metadata"))
        choices, skills = row.get("choices"), metadata.get("skills")
        if isinstance(choices, list | tuple):
            choices = [choice for choice in choices if choice is not None and choice == choice]
        known: dict[str, Any] = {
            "question_type": required_field(row, "question_type"),
            "answer_type": required_field(row, "answer_type"),
            "answer": text_field(row, "answer"),
            "choices": tuple(list_field(choices, "choices")),
            "unit": text_field(row, "unit") or None,
            "precision": _places(row.get("precision")),
            "task": str(metadata.get("task") or "unknown"),
            "skills": texts_field(skills, "skills") if isinstance(skills, list | tuple) else (),
        }
        if known["answer_type"] not in HINTS:
            raise BadRow("unknown_answer_type")
        check_letter([known["answer"]], known["choices"])
        picture = row.get("decoded_image") or row.get("image")
        yield Sample(
            id=pid,
            question=required_field(row, "question"),
            answer=known["answer"],
            images=reader.image(picture, pid),
            options=known["choices"],
            fields=known,
        )

    def prompt(self, sample: Sample) -> str:
        """The question with its unit, the choices, and the hint."""
        unit = sample.fields["unit"]
        question = f"{sample.question} (unit: {unit})" if unit else sample.question
        return super().prompt(replace(sample, question=question))

    def hint(self, sample: Sample) -> str:
        """The content of the official hint, in our words."""
        if sample.options:
            return super().hint(sample)
        kind, places = sample.fields["answer_type"], sample.fields["precision"]
        if kind == "float" and places:
            return f"The answer is a number with {places} decimal place{'s' if places > 1 else ''}."
        return HINTS.get("integer" if kind == "float" and places == 0 else kind, "")

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Grade by our rules, or by the official rules on the same extracted answer."""
        if scorer == "official":
            from vigos_cli.grading.official import official_mathvista

            return official_mathvista(sample.fields, answer_of(response))
        known = {"precision": sample.fields["precision"], "unit": sample.fields["unit"]}
        return by_grading(sample.answer, response, sample.options, kind=sample.fields["answer_type"], **known)


def _places(precision: Any) -> int | None:
    """The number of decimal places; None if the column has no number that a float can have."""
    try:
        places = int(float(precision))
    except (TypeError, ValueError, OverflowError):
        return None
    return places if 0 <= places <= 15 else None


BENCH = MathVista("mathvista", "pid", COLUMNS)
