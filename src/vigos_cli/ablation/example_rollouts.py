"""Examples for the report: answers of several arms to the same picture, coloured by segment."""

from __future__ import annotations

from typing import Any

from vigos_cli.ablation.arms import Arm, SweepResults
from vigos_cli.grading.text_equality import same_text
from vigos_cli.method.segments import runs
from vigos_cli.types import Response

PICTURES, ARMS = 4, 5  # pictures that are shown, and arms for each of them


def examples(results: SweepResults, base: Arm) -> list[dict[str, Any]]:
    """Contradicting pictures on which the arms differ most, with the greedy answers of each arm's first seed.

    The arms are the untrained one, the reference, and the others in order. Of each question only one picture
    is shown.
    """
    start = [arm for arm in results.arms if not arm.trained][:1]
    others = [arm for arm in results.arms if arm.trained and arm is not base]
    arms = [*start, *([base] if base.trained else []), *others][:ARMS]
    ranked = []
    for id, sample in results.samples.items():
        if sample.prior is None or sample.prior.agrees:
            continue
        said = [(arm, arm.runs[0].texts[id]) for arm in arms if id in arm.runs[0].texts]
        if said:
            right = [same_text(response.answer, sample.answer) for _, response in said]
            ranked.append((-len({r.answer for _, r in said}), -len(set(right)), id, sample, said))
    ranked.sort(key=lambda found: found[:3])
    groups: dict[str, Any] = {}
    for found in ranked:
        groups.setdefault(found[3].group, found)
    return [
        {
            "sample": sample,
            "said": [
                {
                    "arm": arm.label,
                    "seed": arm.runs[0].seed,
                    "response": response,
                    "right": same_text(response.answer, sample.answer),
                    "parts": coloured(response, arm.runs[0].spans),
                }
                for arm, response in said
            ],
            "left_out": len(results.arms) - len(arms),
        }
        for _, _, _, sample, said in list(groups.values())[:PICTURES]
    ]


def coloured(response: Response, spans: str) -> list[tuple[str, str]]:
    """The pieces of a response, each with the name of its segment's kind."""
    student = "structured" if response.described else "think"
    return [(piece, kind.value) for piece, kind in runs(response.text, student=student, spans=spans)]
