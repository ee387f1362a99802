"""PALR: the share of the teachers' pull caused by the reference (sec. 2.3, App. A).

    s_t      the pull |log q(y_t) - log p(y_t)| in nats, with the teacher q of the sampled token y_t and the
             student p; 0 if no loss supervises the token
    c^A_t    max(0, log q(y_t) - log q_wrong(y_t)), q_wrong the mean of the same teacher given K wrong answers
    c^I_t    max(0, log q(y_t) - log q_imgcf(y_t)), q_imgcf the same teacher shown another sample's image
    PALR(G)  sum of s c^A / (sum of s (c^A + c^I) + eps), over the tokens of a group G in valid rollouts

>>> palr(lines)["reasoning+answer"]              # lines of rollouts.jsonl
{'mean': 0.17, 'low': ..., 'high': ..., 'n': 120, 'tokens': 2113, 'pull': 0.04}

This module also averages visual dependency by kind of token: KL(student || student shown a grey image).
Intervals are bootstrapped over samples; n counts samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from typing import Any

import numpy as np

from vigos_cli.evaluation.figures import composite
from vigos_cli.types import Kind

Sums = dict[int, np.ndarray]  # row of the data -> sums over its tokens; the last one counts the tokens
EPS = 1e-30  # nats squared: prevents 0/0, and is too small to change any other result
GROUPS: dict[str, tuple[str, ...]] = {  # T_d, T_ra and T_y in the paper
    **{kind.value: (kind.value,) for kind in Kind if kind is not Kind.INVALID},
    "reasoning+answer": (Kind.REASONING, Kind.ANSWER),
    "turn": tuple(Kind),
}


def support(logprob: float, others: Sequence[float]) -> float:
    """c^A or c^I of a token in nats: log q(y) minus the log of the mean of the other probabilities, >= 0.

    `others` are log-probabilities. If there are none, no change reaches the teacher, and the support is 0.
    """
    if not others:
        return 0.0
    top = max(others)
    return max(0.0, logprob - (top + log(sum(exp(other - top) for other in others) / len(others))))


def palr(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """PALR of each group, with the mean of s as `pull`; None if no token of the group has a teacher."""
    return {group: _figure(palr_sums(lines, group), share_by_answer) for group in GROUPS}


def palr_sums(lines: Sequence[Mapping[str, Any]], group: str) -> Sums:
    """Sums over the supervised tokens of a group: s, s c^A, s (c^A + c^I), and their number."""
    return _by_row(lines, [_tokens(line, GROUPS[group]) for line in lines])


def share_by_answer(sums: np.ndarray) -> np.ndarray:
    """PALR from `palr_sums`; nan if there are no tokens."""
    return np.where(sums[..., -1] > 0, sums[..., 1] / (sums[..., 2] + EPS), np.nan)


def mean_per_token(sums: np.ndarray) -> np.ndarray:
    """The first sum (pull or visual dependency) divided by the number of tokens; nan if there are none."""
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / sums[..., -1]


def visual_dependency(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """The mean of visual dependency over the tokens of each kind, in nats."""
    return {kind.value: _figure(visual_sums(lines, kind), mean_per_token) for kind in Kind}


def visual_sums(lines: Sequence[Mapping[str, Any]], kind: str) -> Sums:
    """Sums over the tokens of a kind: visual dependency, and their number."""
    of = [
        [(value,) for name, value in zip(line["kinds"], line["visual"], strict=True) if name == kind]
        for line in lines
    ]
    return _by_row(lines, of)


def _tokens(line: Mapping[str, Any], kinds: Sequence[str]) -> list[tuple[float, float, float]]:
    """s, s c^A and s (c^A + c^I) of each supervised token of these kinds."""
    names = ("kinds", "student_logprob", "teacher_logprob", "answer_support", "image_support")
    found = []
    for kind, student, teacher, by_answer, by_image in zip(*(line[name] for name in names), strict=True):
        if kind in kinds and by_answer is not None:
            pull = abs(teacher - student)
            found.append((pull, pull * by_answer, pull * (by_answer + by_image)))
    return found


def _by_row(lines: Sequence[Mapping[str, Any]], tokens: Sequence[Sequence[tuple[float, ...]]]) -> Sums:
    found: Sums = {}
    for line, values in zip(lines, tokens, strict=True):
        if values:
            table = np.array(values, float)
            found[line["row"]] = found.get(line["row"], 0) + np.append(table.sum(0), len(table))
    return found


def _figure(sums: Sums, statistic: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any] | None:
    """A statistic of sums over tokens, bootstrapped over rows of the data."""
    figure = composite(list(sums.values()), statistic, share=False)
    if figure is None:
        return None
    if figure["low"] is None:  # every resample gives the same value
        figure["low"] = figure["high"] = figure["mean"]
    total = np.sum(list(sums.values()), axis=0)
    figure["tokens"] = round(float(total[-1]))
    return figure if len(total) == 2 else figure | {"pull": float(mean_per_token(total))}
