"""Which tokens of a rollout have which teacher, and the context each teacher reads (eq. 15).

rows = supervise_all(rollouts, prompter, config)
rows[0].terms                            # (Term(PERCEPTION, DESCRIPTION, tokens=(0, 1, 2)), ...)
rows[0].contexts[Role.PERCEPTION].ids    # the teacher's prompt, then the student's own tokens

rollout -> segments -> terms -> one context for the student and one for each teacher that has a term
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from vigos_cli.config.schema import RoutingConfig, RunConfig
from vigos_cli.data.controls import noise_like
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.routing import roles, route
from vigos_cli.method.segments import parse_rollout
from vigos_cli.supervision.batches import Prepared, prompter_of
from vigos_cli.types import Kind, Prompt, Role, Rollout, Segments, Term


@dataclass(frozen=True, slots=True)
class Context:
    """All token ids that a model reads for one rollout, and the position of each sampled token in them.

    A position is None where the context leaves the token out.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    positions: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Supervised:
    """One rollout with its segments and terms, and the contexts of the student and of its teachers."""

    rollout: Rollout
    segments: Segments
    terms: tuple[Term, ...]
    contexts: Mapping[Role, Context]

    @property
    def length(self) -> int:
        """Tokens of the longest context; rows of similar length share a micro-batch."""
        return max(len(context.ids) for context in self.contexts.values())

    def terms_of(self, role: Role) -> list[Term]:
        """The terms of one teacher."""
        return [term for term in self.terms if term.role is role]


def supervise_all(
    rollouts: Sequence[tuple[Prepared, Rollout]], prompter: Prompter, config: RunConfig
) -> list[Supervised]:
    """Parse and route every rollout, and build the contexts of its teachers."""
    supervised = []
    for item, rollout in rollouts:
        own, routing = prompter_of(item.sample, prompter), config.routing
        if not item.sample.images:
            routing = without_perception(routing)
        segments = parse_rollout(rollout, student=routing.student, spans=routing.spans)
        prompt_for = partial(_teacher_prompt, item=item, prompter=own, config=config)
        supervised.append(supervise_rollout(rollout, segments, routing, own, prompt_for))
    return supervised


def without_perception(routing: RoutingConfig) -> RoutingConfig:
    """The routing of a sample without pictures: the plain format, and no teacher that sees only pictures."""
    told = {
        kind.value: [
            role.value for role in roles(getattr(routing, kind.value)) if role is not Role.PERCEPTION
        ]
        for kind in Kind
    }
    return replace(routing, student="plain", **told)


def supervise_rollout(
    rollout: Rollout,
    segments: Segments,
    routing: RoutingConfig,
    prompter: Prompter,
    prompt_for: Callable[[Role], Prompt],
) -> Supervised:
    """Route one rollout; `prompt_for` renders the prompt of a teacher and is called once for each."""
    terms = route(segments, routing)
    student_ids = (*rollout.prompt.ids, *rollout.ids)
    begin = len(rollout.prompt.ids)
    contexts = {Role.STUDENT: Context(rollout.prompt, student_ids, tuple(range(begin, len(student_ids))))}
    for role in {term.role for term in terms} - {Role.TARGET}:
        prompt = prompt_for(role)
        contexts[role] = Context(prompt, *prompter.teacher_sequence(prompt, rollout))
    return Supervised(rollout, segments, _scorable(terms, contexts), contexts)


def _teacher_prompt(role: Role, *, item: Prepared, prompter: Prompter, config: RunConfig) -> Prompt:
    images = item.images
    if role is Role.PERCEPTION and config.routing.perception_image == "noise":
        noise = [noise_like(image, config.seed, item.sample.id) for image in item.sample.images]
        images = prompter.encode(noise, item.sample.places)
    prompt = prompter.render(role, images, question=item.sample.question, reference=item.reference)
    return replace(prompt, role=role)


def _scorable(terms: Sequence[Term], contexts: Mapping[Role, Context]) -> tuple[Term, ...]:
    """Drop tokens that their teacher does not read: those before `<think>` if its turn starts there."""
    kept = []
    for term in terms:
        context = contexts.get(term.role, contexts[Role.STUDENT])
        tokens = tuple(i for i in term.tokens if context.positions[i] is not None)
        if tokens:
            kept.append(Term(term.role, term.kind, tokens, term.weight))
    return tuple(kept)


def supervised_tokens(rows: Sequence[Supervised], role: Role) -> list[tuple[int, int, Term]]:
    """Each token that `role` supervises in these rows, as (row, place in the rollout, term).

    Every tensor over the N supervised tokens of a teacher has this order.
    """
    return [(b, i, term) for b, row in enumerate(rows) for term in row.terms_of(role) for i in term.tokens]
