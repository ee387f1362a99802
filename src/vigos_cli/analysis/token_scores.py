"""Score every sampled token under student and teachers, without gradient.

scores = score_tokens(student, rows, loss)        # one tuple per row, one TokenScore per token
scores[0][3].student, scores[0][3].teacher, scores[0][3].kl
scores[0][3].seen[0].divergence, scores[0][3].seen[0].silent        # what the loss of training computes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vigos_cli.config.schema import LossConfig
from vigos_cli.method.fused_loss import fused_loss, token_log_probs
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.models.student import Student
from vigos_cli.supervision.contexts import Supervised
from vigos_cli.supervision.hidden_states import hidden_states, predicting_states, teacher_states
from vigos_cli.types import Kind, Role, Term


@dataclass(frozen=True, slots=True)
class SeenByLoss:
    """What the loss computes at a token for one teacher; numbers in nats.

    `divergence` is that of `loss=`, before the clip; `kl` is KL(teacher || student), whatever the loss is.
    """

    divergence: float
    kl: float
    clipped: bool  # the clip changes something
    silent: bool  # the clip leaves no gradient
    differ: bool  # teacher and student have different most probable tokens


@dataclass(frozen=True, slots=True)
class TokenScore:
    """Log-probabilities of a sampled token and KL(teacher || student) over the vocabulary, in nats.

    The teacher, its log-probability and the KL are None if no teacher supervises the token. If several
    teachers do, they are those of the first in the order of the role names. `seen` has one entry for each
    teacher; it is empty if no loss was given.
    """

    student: float
    teacher: str | None = None
    teacher_logprob: float | None = None
    kl: float | None = None
    seen: tuple[SeenByLoss, ...] = ()


@torch.no_grad()
def score_tokens(
    student: Student,
    rows: Sequence[Supervised],
    loss: LossConfig | None = None,
    *,
    weights: str = "base",
    micro_batch: int = 8,
) -> list[tuple[TokenScore, ...]]:
    """Score rollouts of similar length together; the order of `rows` is kept.

    With `loss` also compute what a step of training with it would see at each token.
    """
    scores: dict[int, tuple[TokenScore, ...]] = {}
    for places in _batches(rows, micro_batch):
        micro = [rows[i] for i in places]
        scores |= dict(zip(places, _score(student, micro, loss, weights), strict=True))
    return [scores[i] for i in range(len(rows))]


@torch.no_grad()
def teacher_logprobs(
    student: Student, rows: Sequence[Supervised], *, weights: str = "base", micro_batch: int = 8
) -> list[dict[tuple[str, int], float]]:
    """For each row: the log-probability (nats) of every supervised token, by teacher and token."""
    found: list[dict[tuple[str, int], float]] = [{} for _ in rows]
    for role in sorted({term.role for row in rows for term in row.terms} - {Role.TARGET}):
        mine = [i for i, row in enumerate(rows) if row.terms_of(role)]
        for places in _batches([rows[i] for i in mine], micro_batch):
            micro = [rows[mine[place]] for place in places]
            where = [
                (mine[place], token)
                for place, row in zip(places, micro, strict=True)
                for term in row.terms_of(role)
                for token in term.tokens
            ]
            ids = [rows[i].rollout.ids[token] for i, token in where]
            logp_N, *_ = _token_log_probs(student, teacher_states(student, role, micro, weights), None, ids)
            for (i, token), logp in zip(where, logp_N, strict=True):
                found[i][role.value, token] = logp
    return found


@torch.no_grad()
def student_divergence(
    student: Student, rows: Sequence[Supervised], others: Sequence[Supervised], *, micro_batch: int = 8
) -> list[list[float]]:
    """KL(student given `rows` || student given `others`) at every sampled token, in nats.

    Both contain the same rollouts, after different prompts.
    """
    found: dict[int, list[float]] = {}
    for places in _batches(rows, micro_batch):
        own_NH, other_NH = (_of_every_token(student, [side[i] for i in places]) for side in (rows, others))
        ids = [token for i in places for token in rows[i].rollout.ids]
        _, kl, _ = _token_log_probs(student, own_NH, other_NH, ids)
        for i in places:
            count = len(rows[i].rollout.ids)
            found[i], kl = kl[:count], kl[count:]
    return [found[i] for i in range(len(rows))]


def _of_every_token(student: Student, rows: Sequence[Supervised]) -> Tensor:
    """The student's hidden states (N, H) that predict the sampled tokens, row after row."""
    every = [range(len(row.rollout.ids)) for row in rows]
    rows = [
        replace(row, terms=(Term(Role.STUDENT, Kind.END, tuple(tokens)),))
        for row, tokens in zip(rows, every, strict=True)
    ]
    return predicting_states(hidden_states(student, Role.STUDENT, rows), Role.STUDENT, rows, Role.STUDENT)


def _batches(rows: Sequence[Supervised], micro_batch: int) -> list[list[int]]:
    """Batches of the indices of `rows`, each with rows of similar length."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].length)
    return [order[start : start + micro_batch] for start in range(0, len(order), micro_batch)]


def _score(
    student: Student, micro: Sequence[Supervised], loss: LossConfig | None, weights: str
) -> list[tuple[TokenScore, ...]]:
    hidden_BTH = hidden_states(student, Role.STUDENT, micro)
    scores: list[list[TokenScore]] = []
    for b, row in enumerate(micro):
        begin = len(row.rollout.prompt.ids)
        states = hidden_BTH[b, begin - 1 : begin - 1 + len(row.rollout.ids)]
        logp_N, *_ = _token_log_probs(student, states, None, row.rollout.ids)
        scores.append([TokenScore(value) for value in logp_N])
    for role in sorted({term.role for row in micro for term in row.terms} - {Role.TARGET}):
        where = [(b, i) for b, row in enumerate(micro) for t in row.terms_of(role) for i in t.tokens]
        ids = [micro[b].rollout.ids[i] for b, i in where]
        teacher_NH = teacher_states(student, role, micro, weights)
        student_NH = predicting_states(hidden_BTH, Role.STUDENT, micro, role)
        logp_N, kl_N, differ_N = _token_log_probs(student, teacher_NH, student_NH, ids)
        for (b, i), logp, kl in zip(where, logp_N, kl_N, strict=True):
            if scores[b][i].teacher is None:
                scores[b][i] = TokenScore(scores[b][i].student, role.value, logp, kl)
        if loss is not None:
            seen_N = _seen_by_loss(student, student_NH, teacher_NH, ids, role, loss, kl_N, differ_N)
            for (b, i), seen in zip(where, seen_N, strict=True):
                scores[b][i] = replace(scores[b][i], seen=(*scores[b][i].seen, seen))
    return [tuple(row) for row in scores]


def _seen_by_loss(
    student: Student,
    student_NH: Tensor,
    teacher_NH: Tensor,
    ids: Sequence[int],
    role: Role,
    loss: LossConfig,
    kl_N: Sequence[float],
    differ_N: Sequence[bool],
) -> list[SeenByLoss]:
    """The statistics of the loss of training at each token that this teacher supervises."""
    sampled_N = torch.tensor(ids, dtype=torch.long, device=student.device)
    spec = DivergenceSpec.from_config(loss, role)
    weight_N = torch.ones(len(ids))
    _, stats = fused_loss(
        student_NH, teacher_NH, student.head_VH, sampled_N, weight_N, spec, chunk=loss.chunk
    )
    columns = (stats.divergence_N.tolist(), kl_N, stats.clipped_N.tolist(), stats.silent_N.tolist(), differ_N)
    return [SeenByLoss(*values) for values in zip(*columns, strict=True)]


def _token_log_probs(
    student: Student, hidden_NH: Tensor, other_NH: Tensor | None, ids: Sequence[int]
) -> tuple[list[float], list[float], list[bool]]:
    """`token_log_probs` under the student's head, as lists."""
    ids_N = torch.tensor(ids, dtype=torch.long)
    log_p_N, kl_N, differ_N = token_log_probs(hidden_NH, student.head_VH, ids_N, other_NH)
    return log_p_N.tolist(), kl_N.tolist(), differ_N.tolist()
