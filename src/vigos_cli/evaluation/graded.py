"""One graded response; all figures of a benchmark are computed from such responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vigos_cli.types import Sample, Verdict

TOO_LONG = "the prompt is too long"  # how the reason begins why an item was not asked

# The name of a figure -> a function that returns the group, or the groups, of a sample.
Groups = Mapping[str, Callable[[Sample], str | Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Graded:
    """One response with its verdict.

    `score` is the score of a judge, from 0 to 1; None if there is none. `finished` says whether the response
    ended before the length limit; None if that is not known, and so are `tokens`.
    """

    sample: Sample
    draw: int
    verdict: Verdict
    score: float | None = None
    response: str | None = None  # None if the model gave no response
    tokens: int | None = None
    finished: bool | None = None

    @property
    def right(self) -> float:
        """1 if the answer is right; 0 if it is wrong or could not be parsed."""
        return float(self.verdict.verdict == "right")
