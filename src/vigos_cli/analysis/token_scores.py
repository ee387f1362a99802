"""Score every sampled token under student and teachers, without gradient.

scores = score_tokens(student, rows, weights, config)      # one tuple per row, one TokenScore per token
scores[0][3].student, scores[0][3].teacher, scores[0][3].kl
scores[0][3].seen[0].divergence, scores[0][3].seen[0].silent        # what the loss of training computes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vigos_cli.config.routing_group import STUDENT, WITHOUT_TEACHER
from vigos_cli.config.schema import DistillRun, RolloutRun
from vigos_cli.config.supervision_terms import sources
from vigos_cli.method.fused_loss import chunk_of, project, token_log_probs
from vigos_cli.method.losses import NEVER, forward_kl
from vigos_cli.method.targets import contrast
from vigos_cli.models.student import Student
from vigos_cli.supervision.contexts import Supervised
from vigos_cli.supervision.hidden_states import hidden_states, predicting_states, teacher_states
from vigos_cli.supervision.loss_calls import (
    Call,
    Reading,
    composed_target,
    loss_calls,
    read_teachers,
    score_call,
)
from vigos_cli.supervision.teacher_weights import TeacherWeights


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
    teachers or targets do, they are those of the first in the order of the names. `seen` has one entry for
    each of them.
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
    weights: TeacherWeights,
    config: DistillRun | RolloutRun,
    *,
    micro_batch: int = 8,
) -> list[tuple[TokenScore, ...]]:
    """Score rollouts of similar length together; the order of `rows` is kept."""
    scores: dict[int, tuple[TokenScore, ...]] = {}
    for places in _batches(rows, micro_batch):
        micro = [rows[i] for i in places]
        scores |= dict(zip(places, _score(student, micro, weights, config), strict=True))
    return [scores[i] for i in range(len(rows))]


@torch.no_grad()
def teacher_logprobs(
    student: Student, rows: Sequence[Supervised], weights: TeacherWeights, *, micro_batch: int = 8
) -> list[dict[tuple[str, int], float]]:
    """For each row: the log-probability (nats) of every supervised token, by teacher and token."""
    found: list[dict[tuple[str, int], float]] = [{} for _ in rows]
    for name in sorted({term.by for row in rows for term in row.terms if term.by in row.contexts}):
        mine = [i for i, row in enumerate(rows) if row.tokens_of(name)]
        for places in _batches([rows[i] for i in mine], micro_batch):
            micro = [rows[mine[place]] for place in places]
            tokens = [(b, token) for b, row in enumerate(micro) for token in row.tokens_of(name)]
            ids = [micro[b].rollout.ids[token] for b, token in tokens]
            states_NH = teacher_states(student, name, micro, tokens, weights)
            head_VH = weights.heads((name,)).get(name, student.head_VH)
            logp_N, *_ = _token_log_probs(head_VH, states_NH, None, ids)
            for (b, token), logp in zip(tokens, logp_N, strict=True):
                found[mine[places[b]]][name, token] = logp
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
        _, kl, _ = _token_log_probs(student.head_VH, own_NH, other_NH, ids)
        for i in places:
            count = len(rows[i].rollout.ids)
            found[i], kl = kl[:count], kl[count:]
    return [found[i] for i in range(len(rows))]


def _of_every_token(student: Student, rows: Sequence[Supervised]) -> Tensor:
    """The student's hidden states (N, H) that predict the sampled tokens, row after row."""
    tokens = [(b, i) for b, row in enumerate(rows) for i in range(len(row.rollout.ids))]
    return predicting_states(hidden_states(student, STUDENT, rows), STUDENT, rows, tokens)


def _batches(rows: Sequence[Supervised], micro_batch: int) -> list[list[int]]:
    """Batches of the indices of `rows`, each with rows of similar length."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].length)
    return [order[start : start + micro_batch] for start in range(0, len(order), micro_batch)]


def _score(
    student: Student,
    micro: Sequence[Supervised],
    weights: TeacherWeights,
    config: DistillRun | RolloutRun,
) -> list[tuple[TokenScore, ...]]:
    hidden_BTH = hidden_states(student, STUDENT, micro)
    scores: list[list[TokenScore]] = []
    for b, row in enumerate(micro):
        begin = len(row.rollout.prompt.ids)
        states = hidden_BTH[b, begin - 1 : begin - 1 + len(row.rollout.ids)]
        logp_N, *_ = _token_log_probs(student.head_VH, states, None, row.rollout.ids)
        scores.append([TokenScore(value) for value in logp_N])
    teachers = read_teachers(student, micro, weights)
    read = Reading(micro, hidden_BTH, teachers, weights.heads(teachers), student, config)
    for call in loss_calls(micro, config.routing, config.loss):
        if call.by in WITHOUT_TEACHER:
            continue
        measured = replace(call, terms=tuple(replace(term, weight=1.0) for term in call.terms))
        _, stats = score_call(measured, read)
        logp, kl, differ = _against_student(measured, read)
        columns = (stats.divergence_N, kl, stats.clipped_N, stats.silent_N, differ)
        values = zip(*(column.tolist() for column in columns), strict=True)
        for (b, i), seen, logprob in zip(call.tokens, values, logp.tolist(), strict=True):
            known = scores[b][i]
            if known.teacher is None:
                known = TokenScore(known.student, call.by, logprob, seen[1])
            scores[b][i] = replace(known, seen=(*known.seen, SeenByLoss(*seen)))
    return [tuple(row) for row in scores]


def _against_student(call: Call, read: Reading) -> tuple[Tensor, Tensor, Tensor]:
    """log q(y), KL(q || p) and whether both have different most probable tokens, for each token of a call."""
    student, heads = read.student, read.heads
    student_NH = predicting_states(read.hidden_BTH, STUDENT, read.rows, call.tokens)
    sampled_N = torch.tensor([read.rows[b].rollout.ids[i] for b, i in call.tokens])
    target, names = (
        composed_target(read.config.routing, call.by, student),
        sources(read.config.routing, call.by),
    )
    states = {name: read.teachers[name].at(call.tokens) for name in names}
    if target is None and call.by not in heads:
        return token_log_probs(states[call.by], student.head_VH, sampled_N, student_NH)
    logp_N, kl_N = (torch.zeros(len(sampled_N), device=student.device) for _ in range(2))
    differ_N = torch.zeros(len(sampled_N), dtype=torch.bool, device=student.device)
    chunk = read.config.loss.chunk or chunk_of(student.head_VH, 2 * len(states) + 6)
    for start in range(0, len(sampled_N), chunk):
        part = slice(start, start + chunk)
        logits = {
            name: project(of_NH[part], heads.get(name, student.head_VH)) for name, of_NH in states.items()
        }
        logits_CV = project(student_NH[part], student.head_VH)
        size = min(len(logits_CV[0]), *(len(of_CV[0]) for of_CV in logits.values()))
        logits = {name: of_CV[:, :size] for name, of_CV in logits.items()}
        log_p_CV = logits_CV[:, :size].log_softmax(-1)
        log_q_CV = contrast(logits, target) if target else logits[call.by].log_softmax(-1)
        logp_N[part] = log_q_CV.gather(1, sampled_N[part, None].to(student.device))[:, 0]
        kl_N[part] = forward_kl(log_p_CV, log_q_CV.clamp(min=NEVER)).sum(-1).clamp(min=0)
        differ_N[part] = log_p_CV.argmax(-1) != log_q_CV.argmax(-1)
    return logp_N, kl_N, differ_N


def _token_log_probs(
    head_VH: Tensor, hidden_NH: Tensor, other_NH: Tensor | None, ids: Sequence[int]
) -> tuple[list[float], list[float], list[bool]]:
    """`token_log_probs`, as lists."""
    ids_N = torch.tensor(ids, dtype=torch.long)
    log_p_N, kl_N, differ_N = token_log_probs(hidden_NH, head_VH, ids_N, other_NH)
    return log_p_N.tolist(), kl_N.tolist(), differ_N.tolist()
