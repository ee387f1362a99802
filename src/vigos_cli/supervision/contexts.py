"""Which tokens of a rollout are supervised by whom, and the context each teacher reads (eq. 15).

rows = supervise_all(rollouts, prompter, config)
rows[0].terms                           # (Term('perception', DESCRIPTION, tokens=(0, 1, 2)), ...)
rows[0].contexts["perception"].ids      # the teacher's prompt, then the student's own tokens

rollout -> segments -> terms -> one context for the student and one for each teacher that a term needs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import RoutingConfig, RunConfig
from vigos_cli.config.supervision_terms import supervision_rules, teachers_of
from vigos_cli.data.images import BadRow
from vigos_cli.method.prompts import EncodedImages, Prompter
from vigos_cli.method.routing import route
from vigos_cli.method.segments import parse_rollout
from vigos_cli.supervision.batches import prompter_of
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.siblings import Group, grouped
from vigos_cli.supervision.told import pictures_of, told_texts
from vigos_cli.types import Prompt, Rollout, Segments, Term


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
    """One rollout with its segments and terms, and the contexts of the student and of its teachers.

    `teachers` names the teachers that each term needs, by the place of its rule.
    """

    rollout: Rollout
    segments: Segments
    terms: tuple[Term, ...]
    contexts: Mapping[str, Context]
    teachers: Mapping[int, tuple[str, ...]]

    @property
    def length(self) -> int:
        """Tokens of the longest context; rows of similar length share a micro-batch."""
        return max(len(context.ids) for context in self.contexts.values())

    def tokens_of(self, teacher: str) -> tuple[int, ...]:
        """The tokens at which a teacher is needed, in order."""
        terms = [term for term in self.terms if teacher in self.teachers[term.rule]]
        return tuple(sorted({i for term in terms for i in term.tokens}))


def supervise_all(
    rollouts: Sequence[tuple[Prepared, Rollout]], prompter: Prompter, config: RunConfig
) -> list[Supervised]:
    """Parse and route every rollout, and build the contexts of its teachers."""
    routing, supervised = config.routing, []
    encoded: dict[tuple[str, str], EncodedImages] = {}  # pictures of a prompt's teachers, for all its draws
    for (item, rollout), group in zip(rollouts, grouped(rollouts, routing), strict=True):
        own = prompter_of(item.sample, prompter)
        form = routing.student.format if item.sample.images else "think"
        segments = parse_rollout(rollout, student=form, spans=routing.student.spans)
        reads = TeacherPrompts(item, own, config, group, encoded)
        terms = route(segments, routing) if group.supervised else ()
        supervised.append(supervise_rollout(rollout, segments, terms, routing, own, reads.prompt))
    return supervised


def supervise_rollout(
    rollout: Rollout,
    segments: Segments,
    terms: Sequence[Term],
    routing: RoutingConfig,
    prompter: Prompter,
    prompt_for: Callable[[str], Prompt | None],
) -> Supervised:
    """Build the contexts of the teachers that the terms need.

    `prompt_for` renders the prompt of a teacher and is called once for each; None leaves out its terms.
    """
    rules = supervision_rules(routing)
    needed = {place: teachers_of(routing, rule) for place, rule in enumerate(rules)}
    begin, ids = len(rollout.prompt.ids), (*rollout.prompt.ids, *rollout.ids)
    contexts = {STUDENT: Context(rollout.prompt, ids, tuple(range(begin, len(ids))))}
    missing = set()
    for name in dict.fromkeys(name for term in terms for name in needed[term.rule]):
        if (prompt := prompt_for(name)) is None:
            missing.add(name)
        else:
            contexts[name] = Context(prompt, *prompter.teacher_sequence(prompt, rollout))
    whole = [term for term in terms if missing.isdisjoint(needed[term.rule])]
    return Supervised(rollout, segments, _scorable(whole, needed, contexts), contexts, needed)


@dataclass(frozen=True, slots=True)
class TeacherPrompts:
    """Renders the prompts of the teachers of one rollout."""

    item: Prepared
    prompter: Prompter
    config: RunConfig
    group: Group
    encoded: dict[tuple[str, str], EncodedImages]

    def prompt(self, name: str) -> Prompt | None:
        """The prompt of a teacher; None if it is missing for this rollout, which leaves out its terms."""
        teacher, sample = self.config.routing.teachers[name], self.item.sample
        if not sample.images and not teacher.told:
            return None  # it would read nothing at all
        try:
            texts = told_texts(teacher, self.item, self.group, self.config.routing)
            images = self._images(name)
        except BadRow:  # a sibling, or a column that may be missing: all others were checked with the row
            return None
        return self.prompter.render(name, images, question=texts.question, reference=texts.reference)

    def _images(self, name: str) -> EncodedImages:
        sees = self.config.routing.teachers[name].sees
        if sees == "image":
            return self.item.images
        key = self.item.key, repr(sees)
        if key not in self.encoded:
            pictures = pictures_of(sees, self.item, self.config.seed)
            places = self.item.sample.places if len(pictures) == len(self.item.sample.images) else ()
            self.encoded[key] = self.prompter.encode(pictures, places)
        return self.encoded[key]


def _scorable(
    terms: Sequence[Term], needed: Mapping[int, tuple[str, ...]], contexts: Mapping[str, Context]
) -> tuple[Term, ...]:
    """Drop tokens that a teacher of theirs does not read: those before `<think>` if its turn starts there."""
    kept = []
    for term in terms:
        reading = [contexts[name] for name in (STUDENT, *needed[term.rule])]
        tokens = tuple(i for i in term.tokens if all(context.positions[i] is not None for context in reading))
        if tokens:
            kept.append(replace(term, tokens=tokens))
    return tuple(kept)
