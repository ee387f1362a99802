r"""MathVerse, testmini: 788 problems in five versions with less and less text.

    sample_index  problem_index  problem_version  question                        image  answer  question_type
    "9"           "2"            Vision Dominant  "... ()\nChoices:\nA:50°\n..."   <..>   "C"     multi-choice

Vision Only has no question text; its options are read from `question_for_eval`. `mathverse_text_only` reads
the 788 rows of the configuration `testmini_text_only`, which have all the text and are asked without a
picture. Gold answers have many forms: `(C)`, `C\nD` (both letters are then required), an equation, a
sentence. In the official score a language model judges; here a rule does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import (
    mapping_field,
    paragraphs,
    required_field,
    text_field,
    without_marks,
)
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.normal import plain
from vigos_cli.grading.question_options import inlined, letter
from vigos_cli.grading.response_verdicts import answer_of, by_grading, by_letter, no_answer
from vigos_cli.types import Sample, Verdict

COLUMNS = ("sample_index", "problem_index", "problem_version", "question", "answer", "question_type")
TEXT_ONLY = "mathverse_text_only"
LETTERS = tuple(map(letter, range(8)))
SEPARATORS = re.compile(r"[()\s,;.:&]+|\band\b")


class MathVerse(Adapter):
    """The adapter of MathVerse; see the module docstring."""

    groups = {  # noqa: RUF012
        "version": lambda sample: sample.fields["version"],
        "subject": lambda sample: sample.family,
        "question type": lambda sample: sample.fields["question_type"],
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample, in the cluster of its problem."""
        name, version = (
            required_field(row, "sample_index"),
            re.sub(r"[-_]", " ", required_field(row, "problem_version")),
        )
        question, metadata = without_marks(text_field(row, "question")), mapping_field(row.get("metadata"))
        if version != "Vision Only":
            required_field(row, "question")
        blind = self.name == TEXT_ONLY or version == "Text Only"  # by the benchmark's design
        multiple = required_field(row, "question_type") == "multi-choice"
        listing = text_field(row, "question_for_eval") or question
        yield Sample(
            id=name,
            question=question,
            answer=text_field(row, "answer"),
            images=() if blind else reader.image(row.get("image"), name),
            options=inlined(listing.split("Choices:")[-1]) if multiple else (),
            family=str(metadata.get("subject") or "unknown"),
            group=required_field(row, "problem_index"),
            fields={"version": version, "question_type": text_field(row, "question_type")},
        )

    def prompt(self, sample: Sample) -> str:
        """The unchanged question with its options; if it is empty, a request to read it from the image."""
        question = sample.question or "Answer the question in the image."
        if sample.fields["question_type"] != "multi-choice":
            return question
        several = len(_letters(sample.answer)) > 1
        which = "letters of all options that are right" if several else "letter of one option"
        return paragraphs(question, f"The answer is the {which}.")

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """By letters if the gold answer is one or several letters, otherwise by value or text."""
        gold = sample.answer
        golds = _letters(gold)
        if sample.fields["question_type"] != "multi-choice" or not golds:
            return by_grading(gold, response, sample.options)
        if len(golds) == 1:
            fits = LETTERS.index(golds[0]) < len(sample.options)
            return by_letter(golds[0], response, sample.options if fits else LETTERS)
        answer = answer_of(response)
        if answer is None:
            return no_answer("choices")
        said = _letters(answer)
        if not said:
            return Verdict("unparsed", answer, "choices", "not only letters")
        return Verdict("right" if said == golds else "wrong", ", ".join(said), "choices", "all letters count")


def _letters(answer: str) -> list[str]:
    """The letters that an answer lists, sorted; empty if it contains anything else."""
    parts = {part for part in SEPARATORS.split(plain(answer)) if part}
    return sorted(parts) if parts <= set(LETTERS) else []


BENCH = MathVerse("mathverse", "sample_index", COLUMNS)
BLIND = MathVerse(TEXT_ONLY, "sample_index", COLUMNS)
