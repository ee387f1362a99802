"""The loss from hidden states, with the logits of only one chunk of tokens in memory.

    hidden_NH --chunk--> hidden_CH --head--> logits_CV --tile--> target, score, gradient
                                                 |                           |
        grad_NH <---------- grad_CH <---head-- grad_CV <---------------------+

The head is frozen and the weight of every token is known in advance, so the gradient of a chunk can be
taken at once, while its logits are in memory: no tensor of size V is kept longer than a chunk, and nothing
is recomputed. Within a chunk, `losses.score` gets a few rows at a time, so that the elementwise work stays
in the processor's cache, and its memory small (`loss_chunk` chooses both numbers). Everything is float32,
whatever the dtype of the model: in bfloat16 a third of the KLs below 0.01 nats came out negative.

    loss, stats = fused_loss(student_NH, teacher_NH, head.weight, sampled_N, weight_N, spec)
    loss.backward()  # fills the gradient of student_NH

    contexts, target = {"image": image_NH, "black": black_NH}, Contrast("image", "image", "black")
    loss, stats = fused_loss(student_NH, contexts, head.weight, sampled_N, weight_N, spec, target=target)

Shapes: N supervised tokens, C tokens of a chunk, R rows of a tile, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vigos_cli.method.loss_chunk import chunk_rows, tile_rows
from vigos_cli.method.loss_gradient import score_and_gradient
from vigos_cli.method.losses import DivergenceSpec, TokenStats
from vigos_cli.method.targets import Contrast, check, contrast
from vigos_cli.utils.errors import ConfigError

STUDENT, TEACHER = (
    "",
    "teacher",
)  # names of the student and of a plain teacher; contexts have names of their own
HEAD_ROWS = 8192  # rows of a half-precision head that are converted to float32 at once


def fused_loss(
    student_NH: Tensor,
    teacher_NH: Tensor | Mapping[str, Tensor] | None,
    head_VH: Tensor,
    sampled_N: Tensor,
    weight_N: Tensor,
    spec: DivergenceSpec,
    *,
    chunk: int | None = None,
    bias_V: Tensor | None = None,
    target: Contrast | None = None,
    teacher_head_VH: Tensor | Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, TokenStats]:
    """Return the sum of weight_N times the clipped divergence of each token, and statistics of each token.

    The teacher gets no gradient; it is None for a divergence without one. With `target`, `teacher_NH` maps
    the names of contexts to hidden states, and the target composed of them takes the teacher's place. Without
    tokens the loss is a zero that is still connected to `student_NH`. If no gradient is needed, none is
    computed. `chunk` is the number of tokens whose logits are held at a time; None: `loss_chunk` chooses it.

    Teachers use the student's head, except those that `teacher_head_VH` names (a tensor: all of them), whose
    hidden width may differ. Heads of one tokenizer may be padded to different sizes: both sides are then
    compared, and normalised, over the first min(V) entries. `bias_V` belongs to `head_VH` alone.
    """
    wanted = torch.is_grad_enabled() and student_NH.requires_grad
    assert not (wanted and head_VH.requires_grad), "the head must be frozen: it would get no gradient"
    groups = _by_head(student_NH, _named(teacher_NH, spec, target), head_VH, teacher_head_VH)
    head_VH = groups[0][0]
    V = len(head_VH)
    if target is not None and target.exempt and max(target.exempt) >= V:
        raise ConfigError(f"targets: exempt has {max(target.exempt)}, but the vocabulary has {V} entries")
    N, device = len(student_NH), student_NH.device
    sides = sum(len(members) for _, members in groups)
    chunk, rows = chunk or chunk_of(head_VH, sides), tile_rows(V, device.type)
    weight_N = weight_N.to(device, torch.float32)
    loss = torch.zeros((), device=device)
    grad_NH = torch.zeros(student_NH.shape, device=device) if wanted else None
    logits = torch.empty(sides * min(chunk, N), V, device=device)
    # One buffer for each statistic: small tensors allocated between large temporaries fragment the heap, by
    # gigabytes.
    known = TokenStats.empty(N, device)

    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for start in range(0, N, chunk):
            chunk_N = slice(start, min(start + chunk, N))
            C = chunk_N.stop - chunk_N.start
            projected = _project_sides(groups, chunk_N, bias_V, logits)
            for low in range(0, C, rows):
                tile_C = slice(low, min(low + rows, C))
                tile_N = slice(start + tile_C.start, start + tile_C.stop)
                tile = {name: side_CV[tile_C] for name, side_CV in projected.items()}
                cost, stats, grad_RV = _score_tile(
                    tile, sampled_N[tile_N], weight_N[tile_N], spec, target, wanted
                )
                loss += cost
                known.put(tile_N, stats)
                if grad_RV is not None:
                    tile[STUDENT].copy_(grad_RV)  # these logits are not needed again
            if grad_NH is not None:
                _carry(projected[STUDENT], head_VH, grad_NH[chunk_N])

    if grad_NH is not None:
        loss = _KnownGradient.apply(student_NH, loss, grad_NH)
    return loss, known


def _named(
    teacher_NH: Tensor | Mapping[str, Tensor] | None, spec: DivergenceSpec, target: Contrast | None
) -> dict[str, Tensor]:
    """The teachers by name: those that the target needs, or one plain teacher, or none."""
    if target is not None:
        check(target, spec)
        assert isinstance(teacher_NH, Mapping), "a target needs its contexts by name"
        return {name: teacher_NH[name] for name in target.contexts}
    assert not isinstance(teacher_NH, Mapping), "several contexts need a target"
    return {} if teacher_NH is None else {TEACHER: teacher_NH}


Groups = list[tuple[Tensor, dict[str, Tensor]]]  # a head, and the hidden states that it projects, by name


def _by_head(
    student_NH: Tensor,
    teachers: Mapping[str, Tensor],
    head_VH: Tensor,
    teacher_head_VH: Tensor | Mapping[str, Tensor] | None,
) -> Groups:
    """Student and teachers in groups of the same head, the student's first; all heads cut to one length."""
    if not isinstance(teacher_head_VH, Mapping):
        own_head = head_VH if teacher_head_VH is None else teacher_head_VH
        teacher_head_VH = dict.fromkeys(teachers, own_head)
    groups = {id(head_VH): (head_VH, {STUDENT: student_NH})}
    for name, hidden_NH in teachers.items():
        head = teacher_head_VH.get(name, head_VH)
        groups.setdefault(id(head), (head, {}))[1][name] = hidden_NH
    V = min(len(head) for head, _ in groups.values())
    return [(head if len(head) == V else head[:V], members) for head, members in groups.values()]


def _project_sides(groups: Groups, chunk_N: slice, bias_V: Tensor | None, out: Tensor) -> dict[str, Tensor]:
    """Project a chunk of all sides into `out`; return the rows of each side by name.

    One matrix product for all sides with the same head reads the head only once.
    """
    sides: dict[str, Tensor] = {}
    V, low = out.shape[1], 0
    for i, (head, members) in enumerate(groups):
        parts = [hidden_NH[chunk_N] for hidden_NH in members.values()]
        logits = out[low : low + sum(map(len, parts))]
        bias = None if bias_V is None or i else bias_V[:V]
        project(torch.cat(parts), head, bias, out_NV=logits)
        sides.update(zip(members, logits.split(len(parts[0])), strict=True))
        low += len(logits)
    return sides


def _score_tile(
    tile: Mapping[str, Tensor],
    sampled_R: Tensor,
    weight_R: Tensor,
    spec: DivergenceSpec,
    target: Contrast | None,
    wanted: bool,
) -> tuple[Tensor, TokenStats, Tensor | None]:
    """Score a few rows; return their part of the loss, statistics and, if wanted, the logits' gradient."""
    logq_RV = None if target is None else contrast(tile, target, spec.temperature)
    cost_R, stats, grad_RV = score_and_gradient(
        tile[STUDENT], tile.get(TEACHER), sampled_R, weight_R, spec, logq_NV=logq_RV, wanted=wanted
    )
    return cost_R @ weight_R, stats, grad_RV


@torch.no_grad()
def project(
    hidden_NH: Tensor, head_VH: Tensor, bias_V: Tensor | None = None, *, out_NV: Tensor | None = None
) -> Tensor:
    """Compute hidden_NH @ head_VH.T + bias_V in float32, without gradient; into `out_NV` if it is given.

    A half-precision head is converted `HEAD_ROWS` rows at a time. The float32 copy of a whole head of 152k
    tokens and 1,536 channels would take 0.9 GB.
    """
    if out_NV is None:
        out_NV = torch.empty(len(hidden_NH), len(head_VH), device=hidden_NH.device)
    with torch.autocast(hidden_NH.device.type, enabled=False):
        hidden_NH = hidden_NH.float()
        for rows in _head_slices(head_VH):
            torch.mm(hidden_NH, head_VH[rows].float().T, out=out_NV[:, rows])
        if bias_V is not None:
            out_NV += bias_V
    return out_NV


@torch.no_grad()
def token_log_probs(
    hidden_NH: Tensor,
    head_VH: Tensor,
    token_N: Tensor,
    other_NH: Tensor | None = None,
    *,
    other_head_VH: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probability of each token, KL(p || p_other) over the vocabulary, and whether they differ.

    `hidden_NH` predicts p and `other_NH` predicts p_other; both numbers are float32, in nats. They differ if
    their most probable tokens do. Without `other_NH` the KL is 0 and nothing differs. `other_NH` has the same
    head unless `other_head_VH` is given; heads that are padded to different sizes are compared over the
    entries of the shorter one. The logits of `chunk` tokens are held at a time. For scoring without gradient;
    the loss has its own loop.
    """
    other_head_VH = head_VH if other_head_VH is None else other_head_VH
    V = min(len(head_VH), len(other_head_VH))
    head_VH, other_head_VH = head_VH[:V], other_head_VH[:V]
    chunk = chunk or chunk_of(head_VH, 2 if other_NH is None else 6)
    log_p_N, kl_N = (torch.zeros(len(hidden_NH), device=hidden_NH.device) for _ in range(2))
    differ_N = torch.zeros(len(hidden_NH), dtype=torch.bool, device=hidden_NH.device)
    token_N = token_N.to(hidden_NH.device)
    for start in range(0, len(hidden_NH), chunk):
        part = slice(start, start + chunk)
        log_p_CV = project(hidden_NH[part], head_VH).log_softmax(-1)
        log_p_N[part] = log_p_CV.gather(1, token_N[part, None])[:, 0]
        if other_NH is not None:
            log_other_CV = project(other_NH[part], other_head_VH).log_softmax(-1)
            kl_N[part] = (log_p_CV.exp() * (log_p_CV - log_other_CV)).sum(-1).clamp(min=0)
            differ_N[part] = log_p_CV.argmax(-1) != log_other_CV.argmax(-1)
    return log_p_N, kl_N, differ_N


@torch.no_grad()
def sampled_log_probs(
    contexts: Mapping[str, Tensor],
    head_VH: Tensor | Mapping[str, Tensor],
    token_N: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """The float32 log-probability of each token under several contexts, given as hidden states by name.

    `head_VH` is the head of all contexts, or has the head of each by name. The logits of `chunk` tokens of
    one context are held at a time. For the weights and selections of `token_choice`; the KL of two contexts
    comes from `token_log_probs`.
    """
    logp = {}
    for name, hidden_NH in contexts.items():
        head = head_VH[name] if isinstance(head_VH, Mapping) else head_VH
        logp[name] = torch.empty(len(hidden_NH), device=hidden_NH.device)
        rows = chunk or chunk_of(head, 2)
        for start in range(0, len(hidden_NH), rows):
            part = slice(start, start + rows)
            logits_CV = project(hidden_NH[part], head).div_(temperature)
            at_N1 = token_N[part, None].to(hidden_NH.device)
            logp[name][part] = (logits_CV.gather(1, at_N1) - logits_CV.logsumexp(-1, keepdim=True))[:, 0]
    return logp


def chunk_of(head_VH: Tensor, sides: int) -> int:
    """The tokens of a chunk with this head, if `sides` tensors of the size of the vocabulary are held."""
    half = head_VH.dtype != torch.float32
    return chunk_rows(len(head_VH), sides=sides, device=head_VH.device.type, half=half)


def _carry(grad_CV: Tensor, head_VH: Tensor, grad_CH: Tensor) -> None:
    """Compute grad_CH += grad_CV @ head_VH in float32."""
    for rows in _head_slices(head_VH):
        grad_CH.addmm_(grad_CV[:, rows], head_VH[rows].float())


def _head_slices(head_VH: Tensor) -> list[slice]:
    """Slices in which the head is converted to float32; one slice if it is float32 already."""
    V = len(head_VH)
    step = V if head_VH.dtype == torch.float32 else HEAD_ROWS
    return [slice(low, min(low + step, V)) for low in range(0, V, step)]


class _KnownGradient(torch.autograd.Function):
    """A loss whose gradient with respect to the hidden states was computed together with it."""

    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, loss: Tensor, grad_NH: Tensor) -> Tensor:
        ctx.save_for_backward(grad_NH)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_loss: Tensor
    ) -> tuple[Tensor, None, None]:
        (grad_NH,) = ctx.saved_tensors
        return grad_loss * grad_NH, None, None  # autograd rounds it to the dtype of the hidden states
