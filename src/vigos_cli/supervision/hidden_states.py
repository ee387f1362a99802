"""Hidden states of the student and its teachers at the tokens that the student sampled.

    hidden_BTH = hidden_states(student, STUDENT, rows)
    tokens = [(b, i) for b, row in enumerate(rows) for i in row.tokens_of("reasoning")]
    student_NH = predicting_states(hidden_BTH, STUDENT, rows, tokens)
    teacher_NH = teacher_states(student, "reasoning", rows, tokens, weights)

No teacher generates: each reads its own context (`vigos_cli.supervision.contexts`) and predicts the
student's tokens.

Shapes: B rows, T tokens of the longest context, N supervised tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vigos_cli.models.student import Student
from vigos_cli.supervision.contexts import Context, Supervised
from vigos_cli.supervision.shared_prefix import read_prefixes, saves_enough, states_after
from vigos_cli.supervision.teacher_weights import TeacherWeights

Token = tuple[int, int]  # row, and place in its rollout


def hidden_states(
    student: Student, context: str, rows: Sequence[Supervised], tokens: Sequence[Token] | None = None
) -> Tensor:
    """Run the model on the contexts of this name; return its last hidden states (B, T, H).

    With `tokens`, each row is read no further than its last one of them needs: the teacher of the description
    does not read the reasoning. Without rows, the model reads one token: see `even_passes`.
    """
    if not rows:
        return student.idle_pass()
    contexts = [row.contexts[context] for row in rows]
    prompts, ends = [c.prompt for c in contexts], [len(c.ids) for c in contexts]
    if tokens is not None:
        ends = _ends(contexts, tokens)
    with student.seeing(prompts):
        return student.hidden(
            student.batch([c.ids[:end] for c, end in zip(contexts, ends, strict=True)], prompts)
        )


def _ends(contexts: Sequence[Context], tokens: Sequence[Token]) -> list[int]:
    """How many ids of each context must be read: all before its last token, which need not be read itself."""
    last = [len(context.prompt.ids) for context in contexts]
    for b, i in tokens:
        last[b] = max(last[b], contexts[b].positions[i] or 0)
    return last


def supervised_tokens(rows: Sequence[Supervised]) -> list[Token]:
    """The tokens of every term of these rows."""
    return [(b, i) for b, row in enumerate(rows) for term in row.terms for i in term.tokens]


def predicting_states(
    hidden_BTH: Tensor, context: str, rows: Sequence[Supervised], tokens: Sequence[Token]
) -> Tensor:
    """The states (N, H) that predict these tokens, from the contexts of this name."""
    where = _before(rows, context, tokens)
    index = torch.tensor(where, dtype=torch.long, device=hidden_BTH.device).view(-1, 2)
    return hidden_BTH[index[:, 0], index[:, 1]]


def _before(rows: Sequence[Supervised], context: str, tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """The row and the position of the state before each token, which predicts it."""
    return [
        (b, position - 1)
        for b, i in tokens
        if (position := rows[b].contexts[context].positions[i]) is not None
    ]


@torch.no_grad()
def states_of_teachers(
    student: Student,
    rows: Sequence[Supervised],
    tokens: Mapping[str, Sequence[Token]],
    weights: TeacherWeights,
) -> dict[str, Tensor]:
    """The states (N, H) of each teacher that predict its tokens, one teacher after another.

    Teachers with the same weights read what their contexts share only once, if that is worth it.
    """
    together: dict[str, list[str]] = {}
    for name in tokens:
        together.setdefault(weights.of[name], []).append(name)
    found = {}
    for key, names in together.items():
        reads = {name: sorted({b for b, _ in tokens[name]}) for name in names}
        contexts = {name: [rows[b].contexts[name] for b in reads[name]] for name in names}
        if not saves_enough(weights.others.get(key, student), contexts):
            found |= {name: teacher_states(student, name, rows, tokens[name], weights) for name in names}
            continue
        with weights.model(student, names[0]) as model:
            prefixes = read_prefixes(model, contexts)
            for name in names:
                place = {b: at for at, b in enumerate(reads[name])}
                where = [(place[b], position) for b, position in _before(rows, name, tokens[name])]
                found[name] = states_after(model, prefixes, contexts[name], where)
    return {name: found[name] for name in tokens}


@torch.no_grad()
def teacher_states(
    student: Student,
    teacher: str,
    rows: Sequence[Supervised],
    tokens: Sequence[Token],
    weights: TeacherWeights,
) -> Tensor:
    """The teacher's states (N, H) that predict these tokens, without gradient.

    It runs only on the rows of the tokens, with its own weights. The network must be in eval mode, as it is
    outside the student's forward and backward pass.
    """
    reading = sorted({b for b, _ in tokens})
    place = {b: at for at, b in enumerate(reading)}
    own, moved = [rows[b] for b in reading], [(place[b], i) for b, i in tokens]
    with weights.model(student, teacher) as model:
        return predicting_states(hidden_states(model, teacher, own, moved), teacher, own, moved)
