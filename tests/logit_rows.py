"""Rollouts whose student and teachers have given distributions; the loss is the one that training computes.

    loss, grad_NV = loss_of(routed("vcsd"), student=[(4, 1, 1)], image=[(9, 4, 1)], black=[(1, 4, 1)])

A distribution is given by weights that need not sum to one. The hidden states are their logarithms and the
head is the identity, so the gradient is that of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.supervision_terms import supervision_rules, teachers_of
from vigos_cli.method.routing import route
from vigos_cli.supervision.contexts import Context, Supervised
from vigos_cli.supervision.loss_calls import Reading, TeacherStates, loss_calls, score_call
from vigos_cli.training.step import weigh_terms
from vigos_cli.types import Kind, Prompt, Rollout, Segments

Distributions = Sequence[Sequence[float]]


def logits(weights: Distributions) -> Tensor:
    return torch.tensor(weights, dtype=torch.float32).log()


def row_of(config: Any, sampled: Sequence[int]) -> Supervised:
    """One rollout of these tokens, all of them reasoning."""
    prompt, n = Prompt(STUDENT, (0,), ()), len(sampled)
    rollout = Rollout("0", 0, prompt, tuple(sampled), "", tuple(range(1, n + 1)), True)
    segments = Segments((Kind.REASONING,) * n, True, "")
    rules = supervision_rules(config.routing)
    needed = {place: teachers_of(config.routing, rule) for place, rule in enumerate(rules)}
    contexts = {STUDENT: Context(prompt, (0, *sampled), tuple(range(1, n + 1)))}
    return Supervised(rollout, segments, route(segments, config.routing), contexts, needed)


def loss_of(
    config: Any,
    *,
    student: Distributions,
    sampled: Any = None,
    keep: Any = None,
    **teachers: Any,
) -> tuple[float, Tensor]:
    """The loss of a step with one rollout, and its gradient with respect to the student's logits.

    Each entry of `student` is one token, and `sampled` are the tokens (by default 0). `keep` are the tokens
    that a selection has left.
    """
    n = len(student)
    row = row_of(config, sampled or [0] * n)
    if keep is not None:
        row = replace(row, terms=tuple(replace(term, tokens=tuple(keep)) for term in row.terms))
    (row,), _ = weigh_terms([row], config)
    own_NV = logits(student)
    last = len(own_NV[0]) - 1  # both exempt tokens of the Qwen family are the last entry of the vocabulary
    tokenizer = SimpleNamespace(convert_tokens_to_ids=lambda token: last, unk_token_id=None)
    model: Any = SimpleNamespace(head_VH=torch.eye(last + 1), device=torch.device("cpu"), tokenizer=tokenizer)
    hidden_BTH = torch.cat([own_NV, own_NV[-1:]])[None].requires_grad_()  # the last state predicts no token
    places = {(0, i): i for i in range(n)}
    states = {name: TeacherStates(logits(weights), places) for name, weights in teachers.items()}
    read = Reading([row], hidden_BTH, states, {}, model, config)
    loss = torch.zeros(())
    for call in loss_calls([row], config.routing, config.loss):
        loss = loss + score_call(call, read)[0]
    (grad_BTH,) = torch.autograd.grad(loss, hidden_BTH)
    return float(loss.detach()), grad_BTH[0, :n]
