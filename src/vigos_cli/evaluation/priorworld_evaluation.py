"""The PriorWorld evaluation that `vigos eval` and `vigos distill` share.

>>> figures, asked = evaluate_priorworld(asker, samples)
>>> figures["score"], figures["sampled"]["score"], figures["interval"]["score"]
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.evaluation.benchmarks.priorworld_scoring import priorworld_figures
from vigos_cli.types import Response, Sample

if TYPE_CHECKING:
    from vigos_cli.evaluation.asker import Asker


def evaluate_priorworld(
    asker: Asker, samples: Sequence[Sample], folder: Path | None = None
) -> tuple[dict[str, Any], list[tuple[Sample, Response]]]:
    """The figures, and every response with its sample; see `Asker.responses` for what `folder` does."""
    question = attrgetter("question")
    asked = list(asker.responses("priorworld", question, samples, lambda _: len(samples), folder))
    return priorworld_figures(samples, [response for _, response in asked]), asked
