"""The loss of a few tokens together with its gradient in the student's logits, written out.

`losses.score` defines the loss, and autograd could differentiate it. This module computes the same numbers in
one pass, with fewer tensors of the size of the vocabulary. For a token with logits z, temperature t,
p = softmax(z / t), summands s_v of the divergence and slopes g_v = d s_v / d log p_v:

    d D / d z = (g - p sum(g)) / t

                  summand s                                   slope g
    forward_kl    q (log q - log p)                           -q
    reverse_kl    p (log p - log q)                           s + p
    jsd           b q (log q - log m) + g                     (1 - b) p (log p - log m),  m = b q + (1 - b) p
    skew_kl       q (log q - log m)                           -q (1 - a) p / m,           m = a q + (1 - a) p

A clip multiplies the slopes of a token, or sets those of single entries to zero. A divergence without a slope
here (`sampled` and the others that read one token, or a new one) is differentiated by autograd.

    cost_N, stats, grad_NV = score_and_gradient(student_NV, teacher_NV, sampled_N, weight_N, spec)

Shapes: N tokens, V vocabulary, K summands (V, or fewer with top_k).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vigos_cli.method.losses import (
    CLIPS,
    NEVER,
    DivergenceSpec,
    TokenStats,
    entries_at,
    score,
    score_target,
    statistics,
    top_k_index,
)

SMALLEST = torch.finfo(torch.float32).tiny  # keeps log(0) finite where both probabilities are zero
Summands = tuple[Tensor, Tensor]  # summands and slopes (N, K); the slopes may be changed in place


def forward_kl(p_NK: Tensor, logp_NK: Tensor, logq_NK: Tensor, spec: DivergenceSpec) -> Summands:
    """Summands and slopes of KL(q || p)."""
    q_NK = logq_NK.exp()
    return (logq_NK - logp_NK).mul_(q_NK), q_NK.neg_()


def reverse_kl(p_NK: Tensor, logp_NK: Tensor, logq_NK: Tensor, spec: DivergenceSpec) -> Summands:
    """Summands and slopes of KL(p || q)."""
    summands_NK = (logp_NK - logq_NK).mul_(p_NK)
    return summands_NK, summands_NK + p_NK


def jsd(p_NK: Tensor, logp_NK: Tensor, logq_NK: Tensor, spec: DivergenceSpec) -> Summands:
    """Summands and slopes of the Jensen-Shannon divergence with weight beta."""
    if spec.beta in (0, 1):
        return (reverse_kl if spec.beta else forward_kl)(p_NK, logp_NK, logq_NK, spec)
    q_NK = logq_NK.exp()
    logm_NK = _log_mix(q_NK, p_NK, spec.beta)
    slopes_NK = (logp_NK - logm_NK).mul_(p_NK).mul_(1 - spec.beta)
    return torch.addcmul(slopes_NK, q_NK, logq_NK - logm_NK, value=spec.beta), slopes_NK


def skew_kl(p_NK: Tensor, logp_NK: Tensor, logq_NK: Tensor, spec: DivergenceSpec) -> Summands:
    """Summands and slopes of KL(q || alpha q + (1 - alpha) p)."""
    q_NK = logq_NK.exp()
    logm_NK = _log_mix(q_NK, p_NK, spec.alpha)
    slopes_NK = (logp_NK - logm_NK).exp_().mul_(q_NK).mul_(spec.alpha - 1)
    return (logq_NK - logm_NK).mul_(q_NK), slopes_NK


def _log_mix(a_NK: Tensor, b_NK: Tensor, weight: float) -> Tensor:
    """log(weight a + (1 - weight) b) of two probabilities."""
    return torch.lerp(b_NK, a_NK, weight).clamp_(min=SMALLEST).log_()


SLOPES: dict[str, Callable[[Tensor, Tensor, Tensor, DivergenceSpec], Summands]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
    "skew_kl": skew_kl,
}


def score_and_gradient(
    student_NV: Tensor,
    teacher_NV: Tensor | None,
    sampled_N: Tensor,
    weight_N: Tensor,
    spec: DivergenceSpec,
    *,
    logq_NV: Tensor | None = None,
    wanted: bool = True,
) -> tuple[Tensor, TokenStats, Tensor | None]:
    """The cost of each token, its statistics, and the gradient of weight_N @ cost_N in the student's logits.

    `logq_NV` takes the place of a teacher: the log-probabilities of a target, which may be -inf. The gradient
    is None if it is not `wanted`.
    """
    if spec.divergence not in SLOPES:
        return _by_autograd(student_NV, teacher_NV, sampled_N, weight_N, spec, logq_NV, wanted)
    with torch.no_grad():
        logp_NV = (student_NV / spec.temperature).log_softmax(-1)
        if logq_NV is None:
            assert teacher_NV is not None, f"{spec.divergence} needs a teacher"
            logq_NV = told_NV = (teacher_NV / spec.temperature).log_softmax(-1)
        else:
            told_NV, logq_NV = logq_NV, logq_NV.clamp(min=NEVER)
        p_NV = logp_NV.exp()
        index_Nk = top_k_index(logp_NV, logq_NV, spec)
        if index_Nk is None:
            p_NK, logp_NK, logq_NK = p_NV, logp_NV, logq_NV
        else:
            logp_NK, logq_NK = (entries_at(x, index_Nk, spec.tail) for x in (logp_NV, logq_NV))
            p_NK = logp_NK.exp()
        summands_NK, slopes_NK = SLOPES[spec.divergence](p_NK, logp_NK, logq_NK, spec)
        cost_N, clipped_N, silent_N = CLIPS[spec.clip](summands_NK, spec.clip_value)
        stats = statistics(student_NV, logp_NV, told_NV, sampled_N, summands_NK, clipped_N, silent_N, spec)
        if not wanted:
            return cost_N, stats, None
        slopes_NK *= _clip_factor(summands_NK, stats.divergence_N, spec)
        if index_Nk is not None:
            slopes_NK = _to_vocabulary(slopes_NK, logp_NV, logp_NK, index_Nk, spec.tail)
        sums_N1 = slopes_NK.sum(-1, keepdim=True)
        grad_NV = slopes_NK.sub_(p_NV.mul_(sums_N1)).mul_(weight_N[:, None] / spec.temperature)
    return cost_N, stats, grad_NV


def _clip_factor(summands_NK: Tensor, divergence_N: Tensor, spec: DivergenceSpec) -> Tensor | float:
    """What the clip multiplies the slopes with: one number for each token or entry."""
    limit = spec.clip_value
    match spec.clip:
        case "token":
            return (divergence_N <= limit)[:, None]
        case "entry":
            return summands_NK <= limit
        case "scale":
            return (limit / divergence_N.clamp(min=limit))[:, None]
        case "both":
            return (limit / divergence_N.abs().clamp(min=limit))[:, None]
    return 1.0


def _to_vocabulary(
    slopes_NK: Tensor, logp_NV: Tensor, logp_NK: Tensor, index_Nk: Tensor, tail: str
) -> Tensor:
    """The slopes in log p of every entry of the vocabulary, from those of the chosen entries and the tail."""
    k = index_Nk.shape[-1]
    if tail == "renormalise":
        slopes_NK = slopes_NK - logp_NK.exp() * slopes_NK.sum(-1, keepdim=True)
    if slopes_NK.shape[-1] == k:
        return torch.zeros_like(logp_NV).scatter_(-1, index_Nk, slopes_NK)
    # The tail is the sum of the others, so each takes a part of its slope in proportion to its probability.
    # The part is computed from logarithms, because the probability of the tail may be too small for float32.
    parts_NV = (logp_NV - logp_NK[:, k:]).exp_()
    return parts_NV.mul_(slopes_NK[:, k:]).scatter_(-1, index_Nk, slopes_NK[:, :k].contiguous())


def _by_autograd(
    student_NV: Tensor,
    teacher_NV: Tensor | None,
    sampled_N: Tensor,
    weight_N: Tensor,
    spec: DivergenceSpec,
    logq_NV: Tensor | None,
    wanted: bool,
) -> tuple[Tensor, TokenStats, Tensor | None]:
    """The same for a divergence whose slopes are not written out."""
    with torch.set_grad_enabled(wanted):
        leaf_NV = student_NV.detach().requires_grad_(wanted)
        if logq_NV is None:
            cost_N, stats = score(leaf_NV, teacher_NV, sampled_N, spec)
        else:
            cost_N, stats = score_target(leaf_NV, logq_NV, sampled_N, spec)
        grad_NV = torch.autograd.grad(cost_N @ weight_N, leaf_NV)[0] if wanted else None
    return cost_N.detach(), stats, grad_NV
