"""The judge's column: what it is shown of each response, and its figures beside the rules'.

A judge comes last: whatever becomes of it, everything else is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.result import Result
from vigos_cli.evaluation.row_parsing import labelled, paragraphs

if TYPE_CHECKING:
    from vigos_cli.evaluation.judge_column import Judge
    from vigos_cli.evaluation.judge_words import Case


def fill_in(judge: Judge, results: Sequence[Result]) -> None:
    """The judge's scores of all responses, in their place."""
    scores = iter(judge.scores([_case(result.bench, one) for result in results for one in result.graded]))
    for result in results:
        result.graded = [replace(one, score=next(scores)) for one in result.graded]


def _case(bench: Bench | None, graded: Graded) -> Case | None:
    """What the judge is shown of a response; None where there is no response or no gold answer."""
    from vigos_cli.evaluation.judge_words import Case

    sample = graded.sample
    golds = bench.golds(sample) if bench else (sample.answer,)
    if graded.response is None or not golds:
        return None
    question = bench.prompt(sample) if bench else sample.question
    if (options := labelled(sample.options)) not in question:  # they are in the picture
        question = paragraphs(question, options)
    return Case(question, golds, graded.response, by_share=bench.needs_judge if bench else False)


def with_judge(model: str, result: Result) -> dict[str, Any]:
    """The benchmark's figures, the judge's beside them, greedy and sampled apart where ours are."""
    from vigos_cli.evaluation.judge_figures import judged

    by_share = result.bench.needs_judge if result.bench else False
    scores = result.figures(result.graded)
    drawn = [one for one in result.graded if "sampled" in scores and one.draw > 0]
    rest = [one for one in result.graded if "sampled" not in scores or one.draw == 0]
    scores["judge"] = judged(rest, model, by_share)
    if drawn:
        scores["sampled"]["judge"] = judged(drawn, model, by_share)
    return scores
