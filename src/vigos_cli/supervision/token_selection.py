"""Keep only the tokens that a rule selects by a figure of the whole optimizer batch.

    rows = select_tokens(student, rows, weights, config.routing, micro_batch=8)

    select: {lowest_log_p: 0.2}                  the fifth of the tokens that the student finds least likely
    select: {above_quantile: 0.7, of: [A, B]}    those where KL(A || B) of two teachers is above its quantile

The share is of all tokens of the rule in the batch of all processes, so it depends neither on the micro-batch
nor on the number of processes. `skip_first` needs no figure; `vigos_cli.method.routing` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import RoutingConfig
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.method.fused_loss import token_log_probs
from vigos_cli.method.token_choice import above_quantile, lowest_share
from vigos_cli.models.student import Student
from vigos_cli.supervision.contexts import Supervised
from vigos_cli.supervision.even_passes import even_batches
from vigos_cli.supervision.hidden_states import Token, hidden_states, predicting_states, teacher_states
from vigos_cli.supervision.micro_batches import grouped_by_length
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.utils import process_group


@torch.no_grad()
def select_tokens(
    student: Student,
    rows: Sequence[Supervised],
    weights: TeacherWeights,
    routing: RoutingConfig,
    *,
    micro_batch: int,
    micro_tokens: int | None = None,
) -> list[Supervised]:
    """The rows with only the selected tokens in the terms of rules that select."""
    kept = list(rows)
    for place, rule in enumerate(supervision_rules(routing)):
        select = rule.select or {}
        if not {"lowest_log_p", "above_quantile"} & set(select):
            continue
        tokens = [
            (b, i)
            for b, row in enumerate(kept)
            for term in row.terms
            if term.rule == place
            for i in term.tokens
        ]
        figures: dict[Token, float] = {}
        groups = _groups(kept, tokens, micro_batch, micro_tokens)
        for places in even_batches(student, groups, []):
            at = {b: place for place, b in enumerate(places)}
            own = [(b, i) for b, i in tokens if b in at]
            moved = [(at[b], i) for b, i in own]
            found = _figures(student, [kept[b] for b in places], moved, weights, select)
            figures |= dict(zip(own, found, strict=True))
        mask = _mask([figures[token] for token in tokens], select)
        chosen = {token for token, keep in zip(tokens, mask, strict=True) if keep}
        kept = [_only(row, b, place, chosen) for b, row in enumerate(kept)]
    return kept


def _groups(
    rows: Sequence[Supervised], tokens: Sequence[Token], size: int, within: int | None
) -> list[list[int]]:
    """The places of the rows that have one of the tokens, in micro-batches, the longest rows first."""
    reading = sorted({b for b, _ in tokens})
    groups = grouped_by_length([rows[b].length for b in reading], size, within)
    return [[reading[place] for place in group] for group in groups]


def _figures(
    student: Student,
    rows: Sequence[Supervised],
    tokens: Sequence[Token],
    weights: TeacherWeights,
    select: Mapping[str, Any],
) -> list[float]:
    """The figure of each token: the student's log-probability, or the KL of two teachers."""
    sampled_N = torch.tensor([rows[b].rollout.ids[i] for b, i in tokens], dtype=torch.long)
    if "lowest_log_p" in select:
        own_NH = predicting_states(hidden_states(student, STUDENT, rows, tokens), STUDENT, rows, tokens)
        return token_log_probs(own_NH, student.head_VH, sampled_N)[0].tolist()
    heads = weights.heads(select["of"])
    (one_NH, one_head_VH), (other_NH, other_head_VH) = (
        (teacher_states(student, name, rows, tokens, weights), heads.get(name, student.head_VH))
        for name in select["of"]
    )
    return token_log_probs(one_NH, one_head_VH, sampled_N, other_NH, other_head_VH=other_head_VH)[1].tolist()


def _mask(values: Sequence[float], select: Mapping[str, Any]) -> list[bool]:
    """Which of this process's tokens are selected, among those of all processes."""
    parts = process_group.gather(list(values))
    before = sum(map(len, parts[: process_group.rank()]))
    every_N = torch.tensor([value for part in parts for value in part])
    if "lowest_log_p" in select:
        mask_N = lowest_share(every_N, select["lowest_log_p"])
    else:
        mask_N = above_quantile(every_N, select["above_quantile"])
    return mask_N[before : before + len(values)].tolist()


def _only(row: Supervised, b: int, place: int, chosen: set[Token]) -> Supervised:
    """The row without the tokens of a rule that were not chosen."""
    terms = []
    for term in row.terms:
        if term.rule == place:
            term = replace(term, tokens=tuple(i for i in term.tokens if (b, i) in chosen))
        if term.tokens:
            terms.append(term)
    return replace(row, terms=tuple(terms))
