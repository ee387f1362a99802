"""CV-Bench, test: 2,638 questions about counts, relations, depth and distance.

    idx  type  task   image      question  choices      answer  prompt             source
    0    2D    Count  <picture>  "How .."  ["0", "3"]   "(C)"   "How .. (A) 0 .."  ADE20K, COCO or Omni3D

The column `prompt` is used unchanged. The figure `score` is the benchmark's own score,
1/2 ((ADE20K + COCO) / 2 + Omni3D), where each name stands for the accuracy on that source. `accuracy` is the
plain mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.figures import Figure, any_right, cluster, composite, summary
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import list_field, required_field, text_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.question_options import letter
from vigos_cli.grading.response_verdicts import by_letter
from vigos_cli.types import Sample, Verdict

SOURCES = ("ADE20K", "COCO", "Omni3D")


class CVBench(Adapter):
    """The adapter of CV-Bench; see the module docstring."""

    groups = {  # noqa: RUF012
        "source": lambda sample: sample.fields["source"],
        "task": lambda sample: sample.family,
        "type": lambda sample: sample.fields["type"],
    }

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample."""
        name, source = required_field(row, "idx"), required_field(row, "source")
        options, answer = (
            list_field(row.get("choices"), "choices"),
            required_field(row, "answer").strip("() ."),
        )
        if answer not in map(letter, range(len(options))):
            raise BadRow("answer_not_an_option")
        if source not in SOURCES:
            raise BadRow("unknown_source")
        yield Sample(
            id=name,
            question=required_field(row, "prompt"),
            answer=answer,
            images=reader.image(row.get("image"), name),
            options=tuple(options),
            family=required_field(row, "task"),
            fields={"source": source, "type": text_field(row, "type")},
        )

    def prompt(self, sample: Sample) -> str:
        """The prompt of the row, which lists the options."""
        return sample.question

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept the letter or the text of the right option."""
        return by_letter(sample.answer, response, sample.options)

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """`score` and `accuracy`; with several draws also the benchmark's score from Pass@n."""
        figures = {"score": overall(graded), **summary(graded, self.chance, self.groups)}
        if figures["draws"] > 1:
            figures["score of any right"] = overall(any_right(graded))
        return figures


def overall(graded: Sequence[Graded]) -> Figure | None:
    """The benchmark's score, bootstrapped over items; None if a source is missing."""
    parts: dict[str, np.ndarray] = {}
    for one in graded:
        part = parts.setdefault(cluster(one.sample), np.zeros(6))
        place = 2 * SOURCES.index(one.sample.fields["source"])
        part[place : place + 2] += one.right, 1
    return composite(list(parts.values()), _score)


def _score(totals: np.ndarray) -> np.ndarray:
    ade, coco, omni = (totals[..., i] / totals[..., i + 1] for i in (0, 2, 4))
    return ((ade + coco) / 2 + omni) / 2


BENCH = CVBench("cvbench", "idx", ("idx", "prompt", "choices", "answer", "source", "task"))
