"""The loss of a micro-batch: its tokens by teacher and divergence, and one fused loss for each.

    teachers = read_teachers(student, rows, weights)
    read = Reading(rows, hidden_BTH, teachers, weights.heads(teachers), student, config)
    for call in loss_calls(rows, config.routing, config.loss):
        loss, stats = score_call(call, read)

Shapes: B rows, T tokens, N supervised tokens of one call, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import DistillRun, LossConfig, RolloutRun, RoutingConfig
from vigos_cli.config.supervision_terms import Rule, sources, supervision_rules
from vigos_cli.method.fused_loss import fused_loss, token_log_probs
from vigos_cli.method.losses import DivergenceSpec, TokenStats
from vigos_cli.method.routing import contrast_of, rule_spec
from vigos_cli.method.targets import Contrast
from vigos_cli.method.token_choice import margin_weight
from vigos_cli.models.student import Student
from vigos_cli.supervision.contexts import Supervised
from vigos_cli.supervision.even_passes import even_names
from vigos_cli.supervision.hidden_states import Token, predicting_states, states_of_teachers
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.types import Term
from vigos_cli.utils.errors import UserError


@dataclass(frozen=True, slots=True)
class Call:
    """The tokens that one teacher or target supervises with one divergence.

    `tokens[i]` belongs to `terms[i]`. Every tensor over the N tokens of the call has this order.
    """

    by: str
    spec: DivergenceSpec
    rule: Rule
    tokens: tuple[Token, ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class TeacherStates:
    """The states of one teacher at all tokens of a micro-batch that need it."""

    states_MH: Tensor
    place: Mapping[Token, int]

    def at(self, tokens: Sequence[Token]) -> Tensor:
        """The states (N, H) at these tokens."""
        places = [self.place[token] for token in tokens]
        if places == list(range(len(self.states_MH))):
            return self.states_MH
        return self.states_MH[torch.tensor(places, device=self.states_MH.device)]


@dataclass(frozen=True, slots=True)
class Reading:
    """What student and teachers have read of a micro-batch: all that its losses need.

    `heads` are the output heads of those teachers that do not have the student's.
    """

    rows: Sequence[Supervised]
    hidden_BTH: Tensor
    teachers: Mapping[str, TeacherStates]
    heads: Mapping[str, Tensor]
    student: Student
    config: DistillRun | RolloutRun


def loss_calls(rows: Sequence[Supervised], routing: RoutingConfig, loss: LossConfig) -> list[Call]:
    """The calls of a micro-batch, in the order of the names; rules that mean the same share one call."""
    rules = supervision_rules(routing)
    found: dict[tuple[str, DivergenceSpec, int], list[tuple[Token, Term]]] = {}
    for b, row in enumerate(rows):
        for term in row.terms:
            rule = rules[term.rule]
            own = term.rule if rule.token_weight else -1  # a rule with token weights has a call of its own
            key = term.by, rule_spec(rule, loss, edge=term.edge), own
            found.setdefault(key, []).extend(((b, i), term) for i in term.tokens)
    calls = []
    for (by, spec, _), pairs in sorted(found.items(), key=lambda item: item[0][0]):
        tokens, terms = zip(*pairs, strict=True)
        calls.append(Call(by, spec, rules[terms[0].rule], tokens, terms))
    return calls


def read_teachers(
    student: Student, rows: Sequence[Supervised], weights: TeacherWeights
) -> dict[str, TeacherStates]:
    """Let every teacher that some token needs read its rows."""
    names = sorted({name for row in rows for term in row.terms for name in row.teachers[term.rule]})
    tokens = {
        name: [(b, i) for b, row in enumerate(rows) for i in row.tokens_of(name)]
        for name in even_names(student, names)
    }
    states = states_of_teachers(student, rows, tokens, weights)
    return {
        name: TeacherStates(states[name], {token: place for place, token in enumerate(of_name)})
        for name, of_name in tokens.items()
    }


def score_call(call: Call, read: Reading, spec: DivergenceSpec | None = None) -> tuple[Tensor, TokenStats]:
    """The loss of one call, differentiable with respect to the student's states, and its statistics.

    `spec` takes the place of the call's divergence, for a measurement.
    """
    student, device = read.student, read.student.device
    sampled_N = torch.tensor([read.rows[b].rollout.ids[i] for b, i in call.tokens], device=device)
    weight_N = torch.tensor([term.weight for term in call.terms], device=device)
    if call.rule.token_weight:
        weight_N = weight_N * _margins(call, read, sampled_N)
    names = sources(read.config.routing, call.by)
    states = {name: read.teachers[name].at(call.tokens) for name in names}
    target = composed_target(read.config.routing, call.by, student)
    return fused_loss(
        predicting_states(read.hidden_BTH, STUDENT, read.rows, call.tokens),
        states if target else states[names[0]] if names else None,
        student.head_VH,
        sampled_N,
        weight_N,
        spec or call.spec,
        chunk=read.config.loss.chunk,
        target=target,
        teacher_head_VH=read.heads if target else read.heads.get(call.by),
    )


def composed_target(routing: RoutingConfig, by: str, student: Student) -> Contrast | None:
    """The target of this name with token ids in place of token texts; None for a plain teacher.

    Raises UserError for an exempt token that the tokenizer does not have.
    """
    if by not in routing.targets:
        return None
    target, tokenizer = routing.targets[by], student.tokenizer
    exempt = [tokenizer.convert_tokens_to_ids(token) for token in target.exempt]
    for token, id in zip(target.exempt, exempt, strict=True):
        if id is None or (id == tokenizer.unk_token_id and token != tokenizer.unk_token):
            raise UserError(f"routing.targets.{by}.exempt: the tokenizer has no token {token}")
    return contrast_of(target, exempt)


def _margins(call: Call, read: Reading, sampled_N: Tensor) -> Tensor:
    """How much more likely `plus` finds each sampled token than `minus`; 0 where it is less likely."""
    of = call.rule.token_weight or {}
    plus_N, minus_N = (
        token_log_probs(
            read.teachers[name].at(call.tokens), read.heads.get(name, read.student.head_VH), sampled_N
        )[0]
        for name in (of["plus"], of["minus"])
    )
    return margin_weight(plus_N, minus_N)
