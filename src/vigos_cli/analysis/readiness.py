"""Measure sampled rollouts before training: format, answers, lengths, what the loss sees.

>>> measure_readiness(lines)                       # lines of rollouts.jsonl
{'valid': {'mean': 0.94, 'low': 0.80, 'high': 0.98, 'n': 32}, ..., 'no_gradient': {..., 'n': 881}}

    valid, valid_finished  rollouts in the required format, of all and of those that were not cut off
    accuracy               right answers, where the rules can grade the reference; an invalid one is wrong
    tokens, cut_off        sampled tokens of an answer, and answers that ended at rollout.max_new_tokens
    leakage                descriptions that state the reference (`vigos_cli.evaluation.leakage`)
    divergence/KIND        the divergence of the loss per supervised token of a kind, before the clip, in nats
    turn_kl                KL(teacher || student) summed over the supervised tokens of an answer, in nats
    differ                 supervised tokens at which teacher and student have different most probable tokens
    clipped, no_gradient   supervised tokens that the clip changes, or leaves without a gradient
    lost_divergence        the share of the divergence that is on tokens without a gradient

A measure has mean, 95 % interval (bootstrapped over rows of the data, or Wilson's) and n, or is None if
nothing was measured. A token with several teachers counts once for each, as in `metrics.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from vigos_cli.analysis.token_scores import TokenScore
from vigos_cli.evaluation.figures import Figure, composite, mean_figure, ratio
from vigos_cli.evaluation.leakage import leakage, text_words
from vigos_cli.grading.question_options import options_for
from vigos_cli.method.reference_text import reference_text
from vigos_cli.types import Kind, Response, Sample

PROSE = 20  # words; the rules compare a longer reference only as equal text, so its answers are not counted
SUMS = ("tokens", "divergence", "kl", "clipped", "silent", "lost", "differ")

Line = Mapping[str, Any]


def gradable(sample: Sample) -> bool:
    """Whether the rules can grade answers to this sample: its reference is an option or no long prose."""
    reference = reference_text(sample)
    choice = bool(options_for(reference, sample.question, sample.options))
    return bool(reference) and (choice or len(text_words(reference)) <= PROSE)


def loss_sums(kinds: Sequence[Kind], scores: Sequence[TokenScore]) -> dict[str, dict[str, float]]:
    """Sums over the supervised tokens of one rollout by kind, with the names in `SUMS`."""
    found: dict[str, dict[str, float]] = {}
    for kind, score in zip(kinds, scores, strict=True):
        for seen in score.seen:
            sums = found.setdefault(kind.value, dict.fromkeys(SUMS, 0))
            lost = seen.divergence if seen.silent else 0.0
            values = (1, seen.divergence, seen.kl, seen.clipped, seen.silent, lost, seen.differ)
            for name, value in zip(SUMS, values, strict=True):
                sums[name] += value
    return found


def measure_readiness(lines: Sequence[Line]) -> dict[str, Figure | None]:
    """The measures in the order of the module docstring; those of the loss only if teachers scored."""
    graded = [line for line in lines if line["gradable"]]
    finished = [line for line in lines if line["finished"]]
    found = {
        "valid": _share(lines, "valid"),
        "valid_finished": _share(finished, "valid"),
        "accuracy": _share(graded, "correct"),
        "tokens": _mean((line["row"], line["tokens"], 1) for line in lines),
        "cut_off": mean_figure(
            [float(not line["finished"]) for line in lines], [line["row"] for line in lines]
        ),
        "leakage": _leakage(lines),
    }
    sums = [(line["row"], line["loss"]) for line in lines if line["loss"]]
    return found | (_loss_measures(sums) if sums else {})


def not_finite(lines: Sequence[Line]) -> int:
    """The number of rollouts with a divergence that is not a finite number."""
    return sum(
        not all(isfinite(value) for sums in (line["loss"] or {}).values() for value in sums.values())
        for line in lines
    )


def _loss_measures(sums: Sequence[tuple[int, Mapping[str, Mapping[str, float]]]]) -> dict[str, Figure | None]:
    """The measures of the loss from `loss_sums` of each rollout, with its row."""
    whole = [
        (row, {name: sum(part[name] for part in kinds.values()) for name in SUMS}) for row, kinds in sums
    ]
    found = {
        f"divergence/{kind.value}": _mean(
            (row, kinds[kind]["divergence"], kinds[kind]["tokens"]) for row, kinds in sums if kind in kinds
        )
        for kind in Kind
        if any(kind in kinds for _, kinds in sums)
    }
    found["turn_kl"] = _mean((row, total["kl"], 1) for row, total in whole)
    for name, part in (("differ", "differ"), ("clipped", "clipped"), ("no_gradient", "silent")):
        found[name] = ratio(_by_row((row, total[part], total["tokens"]) for row, total in whole))
    lost = ratio(_by_row((row, total["lost"], total["divergence"]) for row, total in whole))
    tokens = round(sum(total["tokens"] for _, total in whole))
    return found | {"lost_divergence": lost and {**lost, "n": tokens}}


def _share(lines: Sequence[Line], name: str) -> Figure | None:
    return mean_figure([float(line[name]) for line in lines], [line["row"] for line in lines])


def _mean(values: Iterable[tuple[int, float, float]]) -> Figure | None:
    """The sum of numerators over that of denominators, from (row, numerator, denominator)."""
    rows = list(_by_row(values).values())
    found = composite(rows, lambda totals: totals[..., 0] / totals[..., 1], share=False)
    return found and {**found, "n": round(sum(below for _, below in rows))}


def _by_row(values: Iterable[tuple[int, float, float]]) -> dict[int, tuple[float, float]]:
    """The sums of both numbers over the rollouts of each row."""
    sums: dict[int, np.ndarray] = {}
    for row, above, below in values:
        sums.setdefault(row, np.zeros(2))[:] += above, below
    return {row: (float(above), float(below)) for row, (above, below) in sums.items()}


def _leakage(lines: Sequence[Line]) -> Figure | None:
    samples = {
        line["row"]: Sample(
            str(line["row"]), line["question"], line["reference"], (), options=tuple(line["options"])
        )
        for line in lines
    }
    responses = [
        Response(str(line["row"]), line["draw"], line["text"], "", "", line["valid"], True, line["tokens"])
        for line in lines
    ]
    return leakage(list(samples.values()), responses)
