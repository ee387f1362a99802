"""Figures about the draws of each item: majority vote, agreement, tokens, and answers that were cut off.

>>> draw_figures(graded)
{'vote': {'mean': 0.71, 'low': .., 'high': .., 'n': 900}, 'agreement': {..., 'n': 900},
 'tokens': {'mean': 212.4, ..., 'n': 4500}, 'tokens_per_right': {'mean': 331.0, ..., 'n': 2887},
 'cut_off': {'mean': 0.02, ..., 'n': 4500}}

    vote              accuracy of the most frequent answer of each item. If several answers are equally
                      frequent, the item counts with the share of them that is right. n: items
    agreement         share of the pairs of draws of an item that give the same answer, averaged over items.
                      n: items
    tokens            mean number of tokens of an answer. n: answers
    tokens_per_right  tokens of all answers divided by the number of right answers. n: right answers
    cut_off           share of answers that ended at the length limit. n: answers

The first two need several draws and are left out for one. The last three are None if nothing is known about
the answers, as for saved responses. Two draws give the same answer if they have the same verdict and either
choose the same option or, without options, give the same text, number or quantity; two formulas must be
written in the same way. An unparsed draw agrees with no other one, and has no vote. If all draws of an item
are unparsed, its vote is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vigos_cli.evaluation.figures import Figure, by_item, cluster, composite, mean_figure
from vigos_cli.evaluation.graded import Graded
from vigos_cli.grading.text_equality import normal_text

LONGEST = 100  # characters; only equal texts are the same answer if one of them is longer
COMPARED = 12  # different answers of an item with which the grader compares another one
NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")
FORMULA = (
    re.compile(  # a sign of a formula, or a single letter beside something else; texts are in lower case
        r"[\\^_={}]|(?<![a-z])[a-z](?![a-z]).*\w|\w.*(?<![a-z])[a-z](?![a-z])"
    )
)


def draw_figures(graded: Sequence[Graded], *, by_rules: bool = True) -> dict[str, Any]:
    """The figures above. `by_rules=False`: only a judge grades, so what depends on verdicts is left out."""
    items = list(by_item(graded).values())
    found: dict[str, Any] = {}
    if by_rules and items and min(map(len, items)) > 1:
        clusters = [cluster(draws[0].sample) for draws in items]
        found["vote"] = mean_figure([vote(draws) for draws in items], clusters)
        found["agreement"] = mean_figure([agreement(draws) for draws in items], clusters)
    counted = [one for one in graded if one.tokens is not None]
    found["tokens"] = _per(counted, [1.0] * len(counted))
    if by_rules:
        found["tokens_per_right"] = _per(counted, [one.right for one in counted])
    ended = [one for one in graded if one.finished is not None]
    found["cut_off"] = mean_figure(
        [float(not one.finished) for one in ended], [cluster(one.sample) for one in ended]
    )
    return found


def vote(draws: Sequence[Graded]) -> float:
    """1 if the most frequent answer of an item is right; with equally frequent ones, the share that is."""
    answers = same_answers(draws)
    most = max(map(len, answers), default=0)
    rights = [answer[0].right for answer in answers if len(answer) == most]
    return sum(rights) / len(rights) if rights else 0.0


def agreement(draws: Sequence[Graded]) -> float:
    """The share of pairs of an item's draws (two or more) that give the same answer."""
    pairs = sum(len(answer) * (len(answer) - 1) for answer in same_answers(draws))
    return pairs / (len(draws) * (len(draws) - 1))


def same_answers(draws: Sequence[Graded]) -> list[list[Graded]]:
    """The parsed draws of an item, one list for each answer, in the order of their first draws."""
    answers: dict[tuple[str, int | str], list[Graded]] = {}
    for one in draws:
        if one.verdict.verdict == "unparsed" or one.verdict.extracted is None:
            continue
        key = one.verdict.verdict, _answer(one.verdict.extracted, one.sample.options)
        same = key if key in answers else next((k for k in list(answers)[:COMPARED] if _same(k, key)), key)
        answers.setdefault(same, []).append(one)
    return list(answers.values())


def _answer(extracted: str, options: Sequence[str]) -> int | str:
    """The index of the chosen option, or the text in a form in which it can be compared."""
    from vigos_cli.grading.choice import choose

    index = choose(extracted, options).index if options else None
    if index is not None:
        return index
    text = normal_text(extracted)
    return repr(float(text)) if NUMBER.fullmatch(text) else text


def _same(one: tuple[str, int | str], other: tuple[str, int | str]) -> bool:
    """Whether the grader holds two texts for the same answer; it is asked only where it answers quickly."""
    from vigos_cli.grading import grade

    (verdict, first), (own, second) = one, other
    if verdict != own or not isinstance(first, str) or not isinstance(second, str):
        return False
    texts = first, second
    if max(map(len, texts)) > LONGEST or any(map(FORMULA.search, texts)) or all(map(NUMBER.fullmatch, texts)):
        return False
    return grade(first, second).verdict == "right"


def _per(counted: Sequence[Graded], below: Sequence[float]) -> Figure | None:
    """Tokens of all answers over the sum of `below`, with a bootstrap over clusters."""
    sums: dict[str, np.ndarray] = {}
    for one, value in zip(counted, below, strict=True):
        sums.setdefault(cluster(one.sample), np.zeros(2))[:] += one.tokens or 0, value
    found = composite(list(sums.values()), lambda totals: totals[..., 0] / totals[..., 1], share=False)
    return found and {**found, "n": round(sum(below))}
