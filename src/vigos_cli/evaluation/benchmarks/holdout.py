"""Rows of the training data that a run held back: asked as in training, graded as rollouts are.

The rows themselves are chosen by `vigos_cli.data.holdout`. Rows that share a picture are one cluster.
"""

from __future__ import annotations

from vigos_cli.evaluation.interface import Adapter
from vigos_cli.grading.question_options import options_for
from vigos_cli.grading.response_verdicts import by_grading
from vigos_cli.method.reference_text import reference_text
from vigos_cli.types import Sample, Verdict


class HeldOut(Adapter):
    """The adapter of samples from `Holdout.samples`; see the module docstring."""

    def prompt(self, sample: Sample) -> str:
        """The question as training asks it, with the options that are in its text."""
        return sample.question

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """The shared graders' verdict; a letter is compared with the options in the question."""
        return by_grading(reference_text(sample), response, _options(sample))

    def golds(self, sample: Sample) -> tuple[str, ...]:
        """The reference as the teachers are told it."""
        return (reference_text(sample),)

    def chance(self, sample: Sample) -> float | None:
        """The chance of a guess among the options in the question."""
        options = _options(sample)
        return 1 / len(options) if options else None


def _options(sample: Sample) -> tuple[str, ...]:
    return options_for(reference_text(sample), sample.question)


BENCH = HeldOut("holdout", "id", ())
