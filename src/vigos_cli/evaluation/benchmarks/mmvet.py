"""MM-Vet, test: 218 open questions, each about one or more of six capabilities.

    question_id  image      question  answer                      capability
    "v1_0"       <picture>  "What ..." "x<AND>y" or "x<OR>y"      "ocr,math", or a list

A judge (`judge=openai`) gives each answer a score from 0.0 to 1.0. An answer needs all parts that `<AND>`
joins, and one of the alternatives that `<OR>` joins. No rule can replace the judge: by rule every answer is
unparsed, and without a judge nothing is graded. An item without a response scores 0; a response without a
judge's score is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vigos_cli.evaluation.figures import by_item, cluster, mean_figure, split_by_group
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import required_field, text_field, texts_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.response_verdicts import answer_of
from vigos_cli.types import Sample, Verdict


class MMVet(Adapter):
    """The adapter of MM-Vet; see the module docstring."""

    needs_judge = True

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """One sample; only the judge uses its gold answer."""
        name = required_field(row, "question_id")
        yield Sample(
            id=name,
            question=required_field(row, "question"),
            answer=text_field(row, "answer"),
            images=reader.image(row.get("image"), name),
            fields={"capabilities": texts_field(row.get("capability"), "capability")},
        )

    def hint(self, sample: Sample) -> str:
        """Empty: answers have a free form."""
        return ""

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Unparsed: no rule grades it."""
        return Verdict("unparsed", answer_of(response), "judge", "needs a judge")

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """The mean score overall and by capability; None without scored responses."""
        judged = [one for one in graded if one.score is not None]
        scored = [one for one in graded if one.score is not None or one.verdict.rule == "missing"]
        figures = {
            "items": len(by_item(graded)),
            "judged": len(judged),
            "unjudged": len(graded) - len(scored),
            "score": _score(scored),
            "capability": {
                name: _score(part)
                for name, part in sorted(
                    split_by_group(scored, lambda sample: sample.fields["capabilities"]).items()
                )
            },
        }
        return figures if judged else {**figures, "note": "needs a judge (judge=openai): nothing is graded"}


def _score(graded: Sequence[Graded]) -> dict[str, Any] | None:
    return mean_figure([one.score or 0.0 for one in graded], [cluster(one.sample) for one in graded])


BENCH = MMVet("mmvet", "question_id", ("question_id", "question", "answer"))
