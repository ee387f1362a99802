"""Hidden states of the student and its teachers at the tokens that the student sampled.

    hidden_BTH = hidden_states(student, Role.STUDENT, rows)
    student_NH = predicting_states(hidden_BTH, Role.STUDENT, rows, Role.REASONING)
    teacher_NH = teacher_states(student, Role.REASONING, rows, weights="base")

No teacher generates: each reads its own context (`vigos_cli.supervision.contexts`) and predicts the
student's tokens.

Shapes: B rows, T tokens of the longest context, N supervised tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vigos_cli.models.student import Student
from vigos_cli.supervision.contexts import Supervised, supervised_tokens
from vigos_cli.types import Role


def hidden_states(student: Student, role: Role, rows: Sequence[Supervised]) -> Tensor:
    """Run the model on the contexts of `role`; return its last hidden states (B, T, H)."""
    contexts = [row.contexts[role] for row in rows]
    return student.hidden(student.batch([c.ids for c in contexts], [c.prompt for c in contexts]))


def predicting_states(
    hidden_BTH: Tensor, role: Role, rows: Sequence[Supervised], supervised_by: Role
) -> Tensor:
    """The states (N, H) that predict the tokens supervised by a teacher, from the contexts of `role`."""
    where = [
        (b, position - 1)  # the state before a token predicts it
        for b, i, _ in supervised_tokens(rows, supervised_by)
        if (position := rows[b].contexts[role].positions[i]) is not None
    ]
    index = torch.tensor(where, dtype=torch.long, device=hidden_BTH.device).view(-1, 2)
    return hidden_BTH[index[:, 0], index[:, 1]]


@torch.no_grad()
def teacher_states(
    student: Student,
    role: Role,
    rows: Sequence[Supervised],
    weights: str = "base",
    ema: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The teacher's states (N, H) that predict the tokens it supervises, without gradient.

    It runs only on the rows that it supervises, with the weights that `teacher=` names. The network must be
    in eval mode, as it is outside the student's forward and backward pass.
    """
    supervised = [row for row in rows if row.terms_of(role)]
    with student.weights(weights, ema):
        return predicting_states(hidden_states(student, role, supervised), role, supervised, role)
