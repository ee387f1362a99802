"""The weight of each token: one mean per teacher, a factor per part, and any split gives the same sum."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, starmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigos_cli.config.schema import CHOICES, LossConfig, RoutingConfig, SuperviseConfig, TeacherContext
from vigos_cli.config.supervision_terms import Rule, supervision_rules
from vigos_cli.method.term_weights import ALL, term_counts, token_weights
from vigos_cli.types import Kind, Term

P, R, F = "perception", "reasoning", "fallback"
RULES = supervision_rules(
    RoutingConfig(
        teachers={name: TeacherContext() for name in (P, R, F)},
        supervise=SuperviseConfig(
            description=P,
            reasoning=R,
            answer=R,
            delimiters=R,
            end={"by": P, "weight": 0.25},
            invalid=[F, {"by": P, "weight": 4}],
        ),
    )
)
KINDS = (*map(Kind, ("description", "reasoning", "answer", "delimiters", "end", "invalid", "invalid")),)
FACTORS = (0.5, 3.0, 3.0, 1.0, 0.25, 2.0, 4.0)  # of RULES under LOSS: stated, or of the part
LOSS = LossConfig(description_weight=0.5, reasoning_weight=3.0, invalid_weight=2.0)


def term(place: int, n: int, weight: float = 1.0) -> Term:
    return Term(RULES[place].by, KINDS[place], tuple(range(n)), place, weight=weight)


def batches():
    terms = st.builds(
        term, st.integers(0, len(RULES) - 1), st.integers(0, 5), st.sampled_from([1.0, 0.5, 2.0])
    )
    return st.lists(st.lists(terms, max_size=4), max_size=6)


def plain_loss(batch: list[list[Term]], costs: list[list[list[float]]], reduction: str) -> float:
    """Eq. 18-21 implemented literally: a mean per teacher, over tokens or over rollouts."""
    total = 0.0
    for name in (P, R, F):
        by_rollout = [
            [
                FACTORS[term.rule] * term.weight * cost
                for term, term_costs in zip(rollout, rollout_costs, strict=True)
                if term.by == name
                for cost in term_costs
            ]
            for rollout, rollout_costs in zip(batch, costs, strict=True)
        ]
        active = [xs for xs in by_rollout if xs]
        if reduction == "rollout" and active:
            total += sum(sum(xs) / len(xs) for xs in active) / len(active)
        elif active:
            total += sum(map(sum, active)) / sum(map(len, active))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("reduction", CHOICES["loss.reduction"])
@given(batch=batches(), data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_split_of_the_batch_has_the_same_weighted_sum(reduction: str, batch, data):
    loss = replace(LOSS, reduction=reduction)
    costs = [
        [[math.sin(7 * i + 3 * j + k) for k in t.tokens] for j, t in enumerate(r)]
        for i, r in enumerate(batch)
    ]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(batch)), max_size=3)))
    parts = [*starmap(slice, pairwise([0, *cuts, len(batch)]))]
    counts = sum((term_counts(batch[part], reduction) for part in parts), start=term_counts([], reduction))
    assert +counts == +term_counts(batch, reduction)
    total = 0.0
    for part in parts:
        weights = token_weights(batch[part], RULES, loss, counts)
        for rollout_weights, rollout_costs in zip(weights, costs[part], strict=True):
            for weight, term_costs in zip(rollout_weights, rollout_costs, strict=True):
                total += weight * sum(term_costs)
    assert total == pytest.approx(plain_loss(batch, costs, reduction), abs=1e-12)


def test_terms_are_counted_in_tokens_or_in_rollouts():
    batch = [[term(0, 2), term(1, 3), term(2, 1)], [term(5, 3)], [term(0, 1), term(1, 0)]]
    assert +term_counts(batch, "term_tokens") == {P: 3, R: 4, F: 3}
    assert +term_counts(batch, "rollout") == {P: 2, R: 1, F: 1}
    weights = token_weights(batch, RULES, LOSS, term_counts(batch, "term_tokens"))
    assert weights == [[0.5 / 3, 3 / 4, 3 / 4], [2 / 3], [0.5 / 3, 0.0]]
    rollout = token_weights(batch, RULES, replace(LOSS, reduction="rollout"), term_counts(batch, "rollout"))
    assert rollout == [[0.5 / 4, 3 / 4, 3 / 4], [2 / 3], [0.5 / 2, 0.0]]


def test_a_rule_can_divide_by_all_sampled_tokens():
    rules = (Rule("all", P, divide_by="all", weight=2.0),)
    batch = [[Term(P, Kind.REASONING, (0, 1))], []]
    counts = term_counts(batch, "term_tokens", sampled=(7, 13))
    assert counts[ALL] == 20
    assert token_weights(batch, rules, LOSS, counts) == [[2 / 20], []]
