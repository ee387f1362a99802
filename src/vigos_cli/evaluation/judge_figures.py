"""The judge's figures, apart from the rules', and how far the two agree.

{'model': 'm', 'prompt': '3f0c..', 'n': 215, 'null': 3,
 'score': {'mean': 0.61, 'low': .., 'high': .., 'n': 215},
 'agreement': {'mean': 0.95, 'low': .., 'high': .., 'n': 215, 'both right': 125, 'only judge': 6, ..}}

n counts the responses that have a judge's verdict, null those that have none. The rules' `unparsed` counts as
wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigos_cli.evaluation.figures import Figure, cluster, mean_figure
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.judge_words import version

_PAIRS = {(1, 1): "both right", (0, 1): "only judge", (1, 0): "only rules", (0, 0): "both wrong"}


def judged(graded: Sequence[Graded], model: str, by_share: bool) -> dict[str, Any]:
    """The figures of some responses. `by_share`: no rule graded them, so there is nothing to agree with."""
    known = [(one, one.score) for one in graded if one.score is not None]
    return {
        "model": model,
        "prompt": version(by_share),
        "n": len(known),
        "null": len(graded) - len(known),
        "score": mean_figure([score for _, score in known], [cluster(one.sample) for one, _ in known]),
        "agreement": None if by_share else _agreement(known),
    }


def _agreement(known: Sequence[tuple[Graded, float]]) -> Figure | None:
    pairs = [(one.right, score) for one, score in known]
    share = mean_figure(
        [float(rule == judge) for rule, judge in pairs], [cluster(one.sample) for one, _ in known]
    )
    return share and {**share, **{name: pairs.count(pair) for pair, name in _PAIRS.items()}}
