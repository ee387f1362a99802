"""People's own questions, and re-packed copies of benchmarks (`bench.schema=plain`).

    problem        answer             image or images        id, options or choices: where there are any
    "How many?"    "4" or ["4", ..]   a picture, or several  "q1", ["3", "4"]

`question` may stand for `problem`. Several answers are alternatives. Where the answer is a letter, the
options may stand in the question. A row without either picture column has no picture by design; one whose
column is empty is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vigos_cli.bench.answering import best, by_grading
from vigos_cli.bench.interface import Adapter, Reading, Row
from vigos_cli.bench.parts import inlined, listed, needed, text, without_marks
from vigos_cli.types import Sample, Verdict

LETTERED = re.compile(r"\(?[A-Z]\)?")


class Plain(Adapter):
    """See the module."""

    groups = {"group": lambda sample: sample.family or "all"}  # noqa: RUF012

    def row(self, row: Row, index: int, reading: Reading) -> Iterator[Sample]:
        """One sample; without an id, its row number."""
        name, answer = text(row, "id") or str(index), row.get("answer")
        several = isinstance(answer, list | tuple)
        golds = [str(gold).strip() for gold in answer] if several else [text(row, "answer")]
        options = listed(row.get("options") or row.get("choices"))
        pictures = row.get("images") if row.get("images") is not None else row.get("image")
        if not isinstance(pictures, list | tuple):
            pictures = [pictures]
        images: tuple = ()
        if "images" in row or "image" in row:
            images = tuple(picture for raw in pictures or [None] for picture in reading.image(raw, name))
        question = without_marks(needed(row, "problem" if "problem" in row else "question"))
        lettered = bool(golds) and LETTERED.fullmatch(golds[0])
        yield Sample(
            id=name,
            question=question,
            answer=golds[0] if golds else "",
            images=images,
            options=tuple(options),
            fields={"answers": golds, "choices": options or (inlined(question) if lettered else ())},
        )

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Right when any of the answers is met."""
        golds = sample.fields["answers"] or [""]
        return best(by_grading(gold, response, sample.fields["choices"]) for gold in golds)

    def golds(self, sample: Sample) -> tuple[str, ...]:
        """All of the answers."""
        return tuple(gold for gold in sample.fields["answers"] if gold)

    def chance(self, sample: Sample) -> float | None:
        """A guess among the options, wherever they stand."""
        return 1 / len(sample.fields["choices"]) if sample.fields["choices"] else None


BENCH = Plain("plain", None, "id", ("answer",))
