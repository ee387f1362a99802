"""HallusionBench: 951 yes-or-no questions about figures, and 178 without a figure.

Some of the figures have been altered.

    category  subcategory  visual_input  set_id  figure_id  question_id  question  gt_answer  filename  image
    "VD"      "figure"     "1"           "0"     "0"        "1"          "Is ..?"  "1"        "./VD.."  <..>

All columns but the picture are text. `visual_input` 0 (category VS, figure 0) is a question that has no
figure by design; only these questions are asked without a picture.

    aAcc  over questions
    qAcc  over (category, subcategory, set, question): right on every figure
    fAcc  over figures (category, subcategory, set, figure): right in every question; questions that have no
          figure are left out

An answer that says neither yes nor no, or that it does not know, is unparsed by our rule, and so it is not
right. The official program counts "does not know" as right for a question without a figure, and as wrong for
every other question. `scorer=official` does the same. In the official program a language model reads the
answer and knows three outcomes (correct, incorrect, unclear); here a rule does in both cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.figures import accuracy, any_right, ratio, summary
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import paragraphs, required_field, text_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.response_verdicts import answer_of, by_word
from vigos_cli.types import Sample, Verdict

SET = ("category", "subcategory", "set_id")
KEY = (*SET, "figure_id", "question_id")
GOLD = {"0": "no", "1": "yes"}
_KNOWN = (
    r"know|known|tell|say|see|view|access|determine|determined|answer|answered|judge|verify|verified|conclude|"
    r"sure|certain|clear|possible|enough|sufficient|provided|given|specified|stated|shown|attached|available"
)
_ABSENT = r"(?:way|image|figure|attachment|visual|information|context)\b"
UNCLEAR = re.compile(  # "I can't tell", "it is not clear", "there is no way to know"
    r"\b(?:un(?:clear|certain|sure|known|able|answerable|determined)|indeterminate|impossible|insufficient"
    r"|depends|maybe|perhaps)\b"
    rf"|(?:\bnot|n't|\bcannot)\s+(?:\w+\s+){{0,2}}?(?:{_KNOWN})\b|\bno {_ABSENT}"
)
DECIDED = re.compile(
    rf"\W*(?:yes|no)\b(?!\s*/|\s+or\b|\s+{_ABSENT})"
)  # not "Yes/No: ", not "No image is given"


class Hallusion(Adapter):
    """The adapter of HallusionBench; see the module docstring."""

    official = True
    groups = {  # noqa: RUF012
        "category": lambda sample: sample.fields["category"],
        "subcategory": lambda sample: f"{sample.fields['category']} {sample.fields['subcategory']}",
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample, in the cluster of its set."""
        known = {column: required_field(row, column) for column in (*KEY, "visual_input")}
        name = "_".join(known[column] for column in KEY)
        gold = GOLD.get(text_field(row, "gt_answer"))
        if gold is None:
            raise BadRow("answer_not_0_or_1")
        picture = row.get("image") or row.get("filename")
        yield Sample(
            id=name,
            question=required_field(row, "question"),
            answer=gold,
            images=() if known["visual_input"] == "0" else reader.image(picture, name),
            family=known["subcategory"],
            group="_".join(known[column] for column in SET),
            fields=known,
        )

    def prompt(self, sample: Sample) -> str:
        """The question and the form of its answer."""
        return paragraphs(sample.question, "The answer is yes or no.")

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept yes or no; by the official rule also "I don't know" if the question has no figure."""
        if (unclear := _unclear(response)) is None:
            return by_word(response, sample.answer, ("yes", "no"))
        if scorer == "official" and _no_figure(sample):
            return Verdict("right", unclear, "official yes/no", "does not know, and there is no figure")
        return Verdict("unparsed", unclear, "yes/no", "does not know")

    def chance(self, sample: Sample) -> float:
        """One half, because the answer is yes or no."""
        return 0.5

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """The three accuracies over all draws; with several draws also those of Pass@n (any draw right)."""
        figures = {**accuracies(graded), **summary(graded, self.chance, self.groups)}
        if figures["draws"] > 1:
            figures["of any right"] = accuracies(any_right(graded))
        return figures


def accuracies(graded: Sequence[Graded]) -> dict[str, Any]:
    """aAcc, qAcc and fAcc, bootstrapped over sets."""
    with_figure = [one for one in graded if not _no_figure(one.sample)]
    return {
        "aAcc": accuracy(graded),
        "qAcc": _all_right(graded, lambda one: one.sample.fields["question_id"]),
        "fAcc": _all_right(with_figure, lambda one: one.sample.fields["figure_id"]),
    }


def _no_figure(sample: Sample) -> bool:
    return sample.fields["category"] == "VS" and sample.fields["figure_id"] == "0"


def _unclear(response: str) -> str | None:
    """The answer of a response if it says that it does not know; None if it begins with yes or no."""
    answer = answer_of(response) or ""
    lowered = answer.casefold().replace("’", "'")
    return answer if UNCLEAR.search(lowered) and not DECIDED.match(lowered) else None


def _all_right(graded: Sequence[Graded], part: Callable[[Graded], str]) -> dict[str, Any] | None:
    """The share of parts of a set whose answers are all right, for each draw separately."""
    parts: dict[tuple[str, str, int], float] = {}
    for one in graded:
        key = (one.sample.group, part(one), one.draw)
        parts[key] = min(parts.get(key, 1.0), one.right)
    sets: dict[str, tuple[float, float]] = {}
    for (group, _, _), right in parts.items():
        above, below = sets.get(group, (0, 0))
        sets[group] = (above + right, below + 1)
    return ratio(sets)


BENCH = Hallusion(
    "hallusion",
    "_".join(KEY),
    (*KEY, "visual_input", "question", "gt_answer"),
)
