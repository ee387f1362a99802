"""Score the student's own tokens with the teachers (eq. 15): what each is shown, and its hidden states.

    supervised = supervise(rollout, segments, prompts_of_teachers, routing, prompter)
    teacher_NH = score_teacher(student, Role.REASONING, [supervised, ...], weights="base")

No teacher generates. A teacher runs only on rows it supervises, in eval mode, without gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vigos_cli.config.schema import RoutingConfig
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.routing import route
from vigos_cli.models.student import Student
from vigos_cli.types import Kind, Prompt, Role, Rollout, Segments, Term


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model reads for one rollout, and where each sampled token stands in it."""

    prompt: Prompt
    ids: tuple[int, ...]
    positions: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Supervised:
    """One rollout with its terms, and what the student and each of its teachers read."""

    rollout: Rollout
    segments: Segments
    terms: tuple[Term, ...]
    readings: Mapping[Role, Reading]

    @property
    def length(self) -> int:
        """Tokens of the longest reading; rows of similar length share a micro-batch."""
        return max(len(reading.ids) for reading in self.readings.values())

    def terms_of(self, role: Role) -> list[tuple[int, Term]]:
        """This role's terms, with their place among all."""
        return [(i, term) for i, term in enumerate(self.terms) if term.role is role]


def supervise(
    rollout: Rollout,
    segments: Segments,
    routing: RoutingConfig,
    prompter: Prompter,
    prompt_for: Callable[[Role], Prompt],
) -> Supervised:
    """Route one rollout and lay out what each of its teachers reads."""
    terms = route(segments, routing)
    student = (*rollout.prompt.ids, *rollout.ids)
    begin = len(rollout.prompt.ids)
    readings = {Role.STUDENT: Reading(rollout.prompt, student, tuple(range(begin, len(student))))}
    for role in {term.role for term in terms} - {Role.TARGET}:
        prompt = prompt_for(role)
        readings[role] = Reading(prompt, *prompter.teacher_sequence(prompt, rollout))
    return Supervised(rollout, segments, _scorable(terms, readings), readings)


def _scorable(terms: Sequence[Term], readings: Mapping[Role, Reading]) -> tuple[Term, ...]:
    """Drop the tokens that a teacher does not read: those before `<think>`, where its turn begins there."""
    kept = []
    for term in terms:
        reading = readings.get(term.role, readings[Role.STUDENT])
        tokens = tuple(i for i in term.tokens if reading.positions[i] is not None)
        if tokens:
            kept.append(Term(term.role, term.kind, tokens, term.weight))
    return tuple(kept)


def read(student: Student, role: Role, rows: Sequence[Supervised]) -> Tensor:
    """Hidden states (B, T, H) of what `role` reads in these rows."""
    readings = [row.readings[role] for row in rows]
    return student.hidden(student.batch([r.ids for r in readings], [r.prompt for r in readings]))


def gather(hidden_BTH: Tensor, role: Role, rows: Sequence[Supervised], terms_of: Role) -> Tensor:
    """The hidden states (N, H) that predict the tokens of `terms_of`'s terms, read as `role`."""
    where = [
        (b, position - 1)  # the state before a token predicts it
        for b, row in enumerate(rows)
        for _, term in row.terms_of(terms_of)
        for i in term.tokens
        if (position := row.readings[role].positions[i]) is not None
    ]
    index = torch.tensor(where, dtype=torch.long, device=hidden_BTH.device).view(-1, 2)
    return hidden_BTH[index[:, 0], index[:, 1]]


@torch.no_grad()
def score_teacher(
    student: Student,
    role: Role,
    rows: Sequence[Supervised],
    weights: str = "base",
    ema: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Teacher hidden states (N, H) at the tokens this role supervises, in the order of the rows' terms."""
    mine = [row for row in rows if row.terms_of(role)]
    with student.weights(weights, ema):
        return gather(read(student, role, mine), role, mine, role)


def kinds_of(rows: Sequence[Supervised], role: Role) -> list[Kind]:
    """The kind of each of a role's tokens, in the order of `score_teacher`."""
    return [term.kind for row in rows for _, term in row.terms_of(role) for _ in term.tokens]
