"""The loss from hidden states, with the logits of only one chunk of tokens in memory.

    hidden_NH --chunk--> hidden_CH --head--> logits_CV --tile--> score, gradient
                                                 |                   |
        grad_NH <---------- grad_CH <---head-- grad_CV <-------------+

The head is frozen and the weight of every token is known in advance, so the gradient of a chunk can be taken
at once, while its logits are in memory: no tensor of size V is kept longer than a chunk, and nothing is
recomputed. Within a chunk, `losses.score` gets a few rows at a time, so that the elementwise work stays in
the processor's cache. Everything is float32, whatever the dtype of the model: in bfloat16 a third of the KLs
below 0.01 nats came out negative.

    loss, stats = fused_loss(student_NH, teacher_NH, head.weight, sampled_N, weight_N, spec)
    loss.backward()  # fills the gradient of student_NH

Shapes: N supervised tokens, C tokens of a chunk, R rows of a tile, H hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vigos_cli.method.losses import DivergenceSpec, TokenStats, score

TILE = 2**20  # logits scored at once on a CPU: a few megabytes, which fit in its cache
HEAD_ROWS = 8192  # rows of a half-precision head that are converted to float32 at once


def fused_loss(
    student_NH: Tensor,
    teacher_NH: Tensor | None,
    head_VH: Tensor,
    sampled_N: Tensor,
    weight_N: Tensor,
    spec: DivergenceSpec,
    *,
    chunk: int = 64,
    bias_V: Tensor | None = None,
) -> tuple[Tensor, TokenStats]:
    """Return the sum of weight_N times the clipped divergence of each token, and statistics of each token.

    The teacher has the same head and gets no gradient; it is None for cross_entropy. Without tokens the loss
    is a zero that is still connected to `student_NH`. If no gradient is needed, none is computed.
    """
    wanted = torch.is_grad_enabled() and student_NH.requires_grad
    assert not (wanted and head_VH.requires_grad), "the head must be frozen: it would get no gradient"
    N, V, device = len(student_NH), len(head_VH), student_NH.device
    sides = [student_NH] if teacher_NH is None else [student_NH, teacher_NH]
    rows = max(1, TILE // V) if device.type == "cpu" else chunk  # each launch on a GPU costs time
    weight_N = weight_N.to(device, torch.float32)
    loss = torch.zeros((), device=device)
    grad_NH = torch.zeros(student_NH.shape, device=device) if wanted else None
    logits = torch.empty(len(sides) * min(chunk, N), V, device=device)
    # One buffer for each statistic: small tensors allocated between large temporaries fragment the heap, by
    # gigabytes.
    known = TokenStats.empty(N, device)

    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for start in range(0, N, chunk):
            chunk_N = slice(start, min(start + chunk, N))
            C = chunk_N.stop - chunk_N.start
            # One matrix product for student and teacher reads the head only once.
            both = logits[: len(sides) * C]
            project(torch.cat([side[chunk_N] for side in sides]), head_VH, bias_V, out_NV=both)
            student_CV, teacher_CV = both[:C], None if teacher_NH is None else both[C:]
            for low in range(0, C, rows):
                tile_C = slice(low, min(low + rows, C))
                tile_N = slice(start + tile_C.start, start + tile_C.stop)
                cost, stats, grad_RV = _score_tile(
                    student_CV[tile_C],
                    None if teacher_CV is None else teacher_CV[tile_C],
                    sampled_N[tile_N],
                    weight_N[tile_N],
                    spec,
                    wanted,
                )
                loss += cost
                known.put(tile_N, stats)
                if grad_RV is not None:
                    student_CV[tile_C] = grad_RV  # these logits are not needed again
            if grad_NH is not None:
                _carry(student_CV, head_VH, grad_NH[chunk_N])

    if grad_NH is not None:
        loss = _KnownGradient.apply(student_NH, loss, grad_NH)
    return loss, known


def _score_tile(
    student_RV: Tensor,
    teacher_RV: Tensor | None,
    sampled_R: Tensor,
    weight_R: Tensor,
    spec: DivergenceSpec,
    wanted: bool,
) -> tuple[Tensor, TokenStats, Tensor | None]:
    """Score a few rows; return their part of the loss, statistics and, if wanted, the logits' gradient."""
    with torch.set_grad_enabled(wanted):
        student_RV = student_RV.detach().requires_grad_(wanted)
        cost_R, stats = score(student_RV, teacher_RV, sampled_R, spec)
        cost = cost_R @ weight_R
        grad_RV = torch.autograd.grad(cost, student_RV)[0] if wanted else None
    return cost.detach(), stats, grad_RV


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
    chunk: int = 64,
) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probability of each token, KL(p || p_other) over the vocabulary, and whether they differ.

    `hidden_NH` predicts p and `other_NH` predicts p_other; both numbers are float32, in nats. They differ if
    their most probable tokens do. Without `other_NH` the KL is 0 and nothing differs. The logits of `chunk`
    tokens are held at a time. For scoring without gradient; the loss has its own loop.
    """
    log_p_N, kl_N = (torch.zeros(len(hidden_NH), device=hidden_NH.device) for _ in range(2))
    differ_N = torch.zeros(len(hidden_NH), dtype=torch.bool, device=hidden_NH.device)
    token_N = token_N.to(hidden_NH.device)
    for start in range(0, len(hidden_NH), chunk):
        part = slice(start, start + chunk)
        log_p_CV = project(hidden_NH[part], head_VH).log_softmax(-1)
        log_p_N[part] = log_p_CV.gather(1, token_N[part, None])[:, 0]
        if other_NH is not None:
            log_other_CV = project(other_NH[part], head_VH).log_softmax(-1)
            kl_N[part] = (log_p_CV.exp() * (log_p_CV - log_other_CV)).sum(-1).clamp(min=0)
            differ_N[part] = log_p_CV.argmax(-1) != log_other_CV.argmax(-1)
    return log_p_N, kl_N, differ_N


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
