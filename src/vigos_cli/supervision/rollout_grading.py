r"""Grade a rollout's answer by one rule, for `metrics.jsonl` and for `rollouts.jsonl`.

>>> verdict(replace(sample, answer="<answer>4</answer>"), parsed(r"... \boxed{4.0}"))
Verdict(verdict='right', extracted='4.0', rule='number', reason='the same quantity')

The reference is the text that the teachers get: without code fences, `<answer>` tags and boxes. It is always
the reference of the sample itself, even if a control gives the teachers that of another sample. The graders
are those of the benchmarks. A rollout that is invalid or has an empty answer is never right.
"""

from __future__ import annotations

from functools import lru_cache

from vigos_cli.grading.question_options import options_for
from vigos_cli.grading.response_verdicts import by_grading
from vigos_cli.grading.text_equality import same_text
from vigos_cli.method.reference_text import reference_text
from vigos_cli.types import Sample, Segments, Verdict


def verdict(sample: Sample, segments: Segments) -> Verdict | None:
    """The verdict on a parsed rollout; None if it has no answer to grade."""
    if not segments.valid or not segments.answer.strip():
        return None
    reference = reference_text(sample)
    return _graded(reference, segments.answer, options_for(reference, sample.question, sample.options))


def is_right(sample: Sample, segments: Segments) -> bool:
    """Whether the answer of a parsed rollout is right."""
    found = verdict(sample, segments)
    return found is not None and found.verdict == "right"


def same_answer(one: str, other: str, options: tuple[str, ...] = ()) -> bool:
    """Whether two answers to one question are the same by the rules of the graders."""
    return _graded(one, other, options).verdict == "right"


@lru_cache(maxsize=4096)  # several rollouts of one prompt often give one answer
def _graded(reference: str, answer: str, options: tuple[str, ...]) -> Verdict:
    """Equal texts are right without grading. All other pairs go to the graders, which limit their time."""
    if same_text(answer, reference):
        return Verdict("right", answer, "text", "the same text")
    return by_grading(reference, answer, options)
