"""One graded response, the value from which every figure is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vigos_cli.types import Sample, Verdict

Groups = Mapping[
    str, Callable[[Sample], str | Sequence[str]]
]  # a figure's name -> a sample's group or groups


@dataclass(frozen=True, slots=True)
class Graded:
    """One response with its verdict.

    `score` is a judge's, from 0 to 1. `finished`: it ended before the length limit. None: not known.
    """

    sample: Sample
    draw: int
    verdict: Verdict
    score: float | None = None
    response: str | None = None  # None: no response
    tokens: int | None = None
    finished: bool | None = None

    @property
    def right(self) -> float:
        """1 for a right answer, 0 for a wrong or unparsed one."""
        return float(self.verdict.verdict == "right")
