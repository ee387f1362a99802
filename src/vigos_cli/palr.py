"""PALR, how much of the teachers' pull is owed to the reference answer (sec. 2.3, App. A); and its averages.

    s_t      |log q(y_t) - log p(y_t)|, of the teacher q of the sampled token y_t and the student p, in nats;
             0 where no loss supervises
    c^A_t    max(0, log q(y_t) - log q_wrong(y_t)), q_wrong the mean of the same teacher told K wrong answers
    c^I_t    max(0, log q(y_t) - log q_imgcf(y_t)), the same teacher shown another sample's picture
    PALR(G)  sum of s c^A / (sum of s (c^A + c^I) + eps), over the tokens of a group G in valid rollouts

>>> palr(lines)["reasoning+answer"]              # lines of rollouts.jsonl
{'mean': 0.17, 'low': ..., 'high': ..., 'n': 120, 'tokens': 2113, 'pull': 0.04}

Beside it visual dependency: KL(student || student shown a grey picture) of every token, by kind. Intervals
are bootstrapped over samples; n counts samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from typing import Any

import numpy as np

from vigos_cli.bench.figures import composite
from vigos_cli.types import Kind

EPS = 1e-8  # nats squared; the paper gives none
GROUPS: dict[str, tuple[str, ...]] = {  # the paper's are T_d, T_ra and T_y
    **{kind.value: (kind.value,) for kind in Kind if kind is not Kind.INVALID},
    "reasoning+answer": (Kind.REASONING, Kind.ANSWER),
    "turn": tuple(Kind),
}


def support(logprob: float, others: Sequence[float]) -> float:
    """c^A or c^I of a token: its log-probability above that under the mean of the others, at least 0 (nats).

    Without others the teacher reads the same whatever is changed, and its support is exactly 0.
    """
    if not others:
        return 0.0
    top = max(others)
    return max(0.0, logprob - (top + log(sum(exp(other - top) for other in others) / len(others))))


def palr(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """PALR of each group. `pull` is the mean of s; None where no token of the group has a teacher."""
    return {
        group: _figure(
            [_tokens(line, kinds) for line in lines],
            [line["row"] for line in lines],
            lambda sums: sums[..., 1] / (sums[..., 2] + EPS),
        )
        for group, kinds in GROUPS.items()
    }


def visual_dependency(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """The mean of visual dependency over the tokens of each kind, in nats."""
    figures = {}
    for kind in Kind:
        of = [
            [(value,) for name, value in zip(line["kinds"], line["visual"], strict=True) if name == kind]
            for line in lines
        ]
        rows = [line["row"] for line in lines]
        figures[kind.value] = _figure(of, rows, lambda sums: sums[..., 0] / sums[..., -1])
    return figures


def _tokens(line: Mapping[str, Any], kinds: Sequence[str]) -> list[tuple[float, float, float]]:
    """s, s c^A and s (c^A + c^I) of each supervised token of these kinds."""
    names = ("kinds", "student_logprob", "teacher_logprob", "answer_support", "image_support")
    found = []
    for kind, student, teacher, by_answer, by_image in zip(*(line[name] for name in names), strict=True):
        if kind in kinds and by_answer is not None:
            pull = abs(teacher - student)
            found.append((pull, pull * by_answer, pull * (by_answer + by_image)))
    return found


def _figure(
    tokens: Sequence[Sequence[tuple[float, ...]]],
    rows: Sequence[int],
    statistic: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any] | None:
    """A statistic of sums over tokens (their number last), bootstrapped over rows of the data."""
    sums: dict[int, np.ndarray] = {}
    for row, values in zip(rows, tokens, strict=True):
        if values:
            table = np.array(values, float)
            sums[row] = sums.get(row, 0) + np.append(table.sum(0), len(table))
    figure = composite(list(sums.values()), statistic, share=False)
    if figure is None:
        return None
    if figure["low"] is None:  # every resample says the same
        figure["low"] = figure["high"] = figure["mean"]
    total = np.sum(list(sums.values()), axis=0)
    figure["tokens"] = round(float(total[-1]))
    return figure if len(total) == 2 else figure | {"pull": float(total[0] / total[-1])}
