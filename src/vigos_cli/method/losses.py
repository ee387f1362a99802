"""Divergences of the student from a teacher at one token, and their clip.

    logits ---> log-probabilities --top_k--> summands_NK --clip--> one number per token --weights--> loss

The student is p, the teacher q. A divergence returns its summands, one for each vocabulary entry: their sum
is its value, and one of the clips works on each summand. With `top_k` every divergence over the vocabulary is
computed on k entries of both sides. Everything is differentiable with respect to the student's logits and
computed in their dtype (float32 in training, float64 in tests). docs/method.md has the equations and says
which options have a clip.

    >>> spec = DivergenceSpec("forward_kl", clip="none")
    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(3)]])
    >>> cost_N, stats = score(student, teacher, torch.tensor([1]), spec)
    >>> cost_N
    tensor([0.1308])

Shapes: N supervised tokens, V vocabulary, K summands (V, or fewer for a divergence that needs fewer), k
chosen entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vigos_cli.utils.errors import ConfigError

NEVER = -1e30  # log-probability of an entry outside the support: exp gives exactly 0, and 0 * NEVER is 0


@dataclass(frozen=True, slots=True)
class DivergenceSpec:
    """A divergence and its options, as `loss=` sets them for one teacher.

    `top_k=None` compares the whole vocabulary. The divergences that read only the sampled token (`sampled`,
    `cross_entropy`, `advantage`) have no entries to choose from and ignore `top_k`.
    """

    divergence: str
    clip: str = "none"
    clip_value: float = 0.05
    temperature: float = 1.0
    beta: float = 0.5
    alpha: float = 0.1
    top_k: int | None = None
    top_k_of: str = "teacher"  # whose k most likely entries: teacher or student
    tail: str = "bucket"  # all other entries: bucket (one more entry) or renormalise (left out)
    advantage: float = -0.5  # of `advantage`

    def __post_init__(self) -> None:
        bounds = {
            "temperature must be above 0": self.temperature > 0,
            "clip_value must be above 0": self.clip == "none" or self.clip_value > 0,
            "beta must lie between 0 (forward_kl) and 1 (reverse_kl)": (
                self.divergence != "jsd" or 0 <= self.beta <= 1
            ),
            "alpha must lie between 0 and 1; use forward_kl for 0": (
                self.divergence != "skew_kl" or 0 < self.alpha < 1
            ),
            "top_k must be at least 1": self.top_k is None or self.top_k >= 1,
        }
        for complaint, fine in bounds.items():
            if not fine:
                raise ConfigError(f"loss.{complaint}")


# ---- divergences: log-probabilities of the student and the teacher -> summands


def forward_kl(logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
    """KL(q || p), eq. 4, 18, 19: large if the student would rarely write what the teacher would."""
    return logq_NV.exp() * (logq_NV - logp_NV)


def reverse_kl(logp_NV: Tensor, logq_NV: Tensor) -> Tensor:
    """KL(p || q), eq. 20: large if the student writes what the teacher would not."""
    return logp_NV.exp() * (logp_NV - logq_NV)


def jsd(logp_NV: Tensor, logq_NV: Tensor, beta: float) -> Tensor:
    """beta KL(q || m) + (1 - beta) KL(p || m) with m = beta q + (1 - beta) p (arXiv 2306.13649).

    The formula is 0 at both ends. There it is defined as its limit: divided by beta it tends to forward_kl as
    beta -> 0; divided by 1 - beta, to reverse_kl as beta -> 1. At 0.5 it is symmetric and at most ln 2.
    """
    if beta in (0, 1):
        return (reverse_kl if beta else forward_kl)(logp_NV, logq_NV)
    logm_NV = _mix(logq_NV, logp_NV, beta)
    return beta * logq_NV.exp() * (logq_NV - logm_NV) + (1 - beta) * logp_NV.exp() * (logp_NV - logm_NV)


def skew_kl(logp_NV: Tensor, logq_NV: Tensor, alpha: float) -> Tensor:
    """KL(q || alpha q + (1 - alpha) p), at most -ln alpha (arXiv 2402.03898)."""
    return forward_kl(_mix(logq_NV, logp_NV, alpha), logq_NV)


def sampled_reverse_kl(logp_NV: Tensor, logq_NV: Tensor, sampled_N: Tensor) -> Tensor:
    """Policy-gradient estimate of reverse_kl from the sampled token (`loss=sampled`).

    The value is log p(y) - log q(y), which may be negative. The gradient is that number, held constant,
    times the gradient of log p(y); the gradient of the value itself has mean zero. Over y ~ p the means of
    value and gradient are those of reverse_kl. A token that was sampled at another temperature or with top-p
    is treated as if it was sampled from p.
    """
    logp_N1 = _at(logp_NV, sampled_N)
    cost_N1 = (logp_N1 - _at(logq_NV, sampled_N)).detach()
    return cost_N1 * (1 + logp_N1 - logp_N1.detach())


def cross_entropy(logp_NV: Tensor, sampled_N: Tensor) -> Tensor:
    """-log p(y), which is forward_kl from a teacher that gives y the probability 1."""
    return -_at(logp_NV, sampled_N)


def fixed_advantage(logp_NV: Tensor, sampled_N: Tensor, advantage: float) -> Tensor:
    """Policy gradient with the same advantage A for every token and no teacher (arXiv 2608.31046, control).

    Value -A log p(y), gradient -A times that of log p(y): the gradient of sampled_reverse_kl with the number
    A in the place of log q(y) - log p(y). The value is no distance and has no lower bound. For A < 0 it is
    negative; it falls as the student makes its own tokens less likely, and its mean over y ~ p is A times the
    student's entropy. A token that was sampled at another temperature or with top-p is treated as if it was
    sampled from p.
    """
    return -advantage * _at(logp_NV, sampled_N)


def _mix(loga: Tensor, logb: Tensor, weight: float) -> Tensor:
    """log(weight a + (1 - weight) b)."""
    return torch.logaddexp(loga + math.log(weight), logb + math.log1p(-weight))


def top_k_index(logp_NV: Tensor, logq_NV: Tensor, spec: DivergenceSpec) -> Tensor | None:
    """The k entries (N, k) that are most likely under one side; None if all entries are compared.

    The choice has no gradient.
    """
    if spec.top_k is None or spec.divergence in OF_SAMPLED_TOKEN:
        return None
    chooser_NV = {"teacher": logq_NV, "student": logp_NV}[spec.top_k_of].detach()
    return chooser_NV.topk(min(spec.top_k, chooser_NV.shape[-1]), dim=-1).indices


def entries_at(log_NV: Tensor, index_Nk: Tensor, tail: str) -> Tensor:
    """One side on the chosen entries, which are the same for both sides.

    With tail=bucket all others form one more entry, so the divergence of two distributions is at most that
    over the vocabulary. With tail=renormalise both sides sum to one over the k entries, and probability on
    other entries has no cost.
    """
    log_Nk = log_NV.gather(-1, index_Nk)
    if tail == "renormalise":
        return log_Nk.log_softmax(-1)
    if index_Nk.shape == log_NV.shape:
        return log_Nk
    return torch.cat([log_Nk, log_NV.scatter(-1, index_Nk, -math.inf).logsumexp(-1, keepdim=True)], -1)


def _plain_logp(logits_NV: Tensor, logp_NV: Tensor, index_N: Tensor, temperature: float) -> Tensor:
    """The log-probability (N,) of each token at temperature 1; `logp_NV` is that at `temperature`."""
    if temperature == 1:
        return _at(logp_NV, index_N)[:, 0]
    return (_at(logits_NV, index_N) - logits_NV.logsumexp(-1, keepdim=True))[:, 0]


def _at(log_NV: Tensor, index_N: Tensor) -> Tensor:
    return log_NV.gather(-1, index_N[:, None])


Divergence = Callable[[Tensor, Tensor, Tensor, DivergenceSpec], Tensor]

DIVERGENCES: dict[str, Divergence] = {
    "forward_kl": lambda p, q, y, spec: forward_kl(p, q),
    "reverse_kl": lambda p, q, y, spec: reverse_kl(p, q),
    "jsd": lambda p, q, y, spec: jsd(p, q, spec.beta),
    "skew_kl": lambda p, q, y, spec: skew_kl(p, q, spec.alpha),
    "sampled": lambda p, q, y, spec: sampled_reverse_kl(p, q, y),
    "cross_entropy": lambda p, q, y, spec: cross_entropy(p, y),
    "advantage": lambda p, q, y, spec: fixed_advantage(p, y, spec.advantage),
}
WITHOUT_TEACHER = ("cross_entropy", "advantage")
OF_SAMPLED_TOKEN = ("sampled", *WITHOUT_TEACHER)  # all others are sums over the vocabulary


# ---- clips: summands -> the cost of the token, whether it was clipped, whether it has no gradient


def clip_none(summands_NK: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """The divergence without a clip."""
    value_N = summands_NK.sum(-1)
    never_N = torch.zeros_like(value_N, dtype=torch.bool)
    return value_N, never_N, never_N


def clip_token(summands_NK: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """The authors' program: a token above the limit costs the limit and has no gradient.

    It still counts in the denominator.
    """
    value_N = summands_NK.sum(-1)
    above_N = value_N > limit
    return value_N.clamp(max=limit), above_N, above_N


def clip_entry(summands_NK: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """OPSD (arXiv 2601.18734): a summand above the limit costs the limit and has no gradient.

    Negative summands are not clipped, so the value may be negative.
    """
    above_NK = summands_NK > limit
    return summands_NK.clamp(max=limit).sum(-1), above_NK.any(-1), above_NK.all(-1)


def clip_scale(summands_NK: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """A token above the limit costs the limit; its gradient is scaled by limit / divergence."""
    value_N = summands_NK.sum(-1)
    shrunk_N = value_N * (limit / value_N.detach().clamp(min=limit))
    return shrunk_N, value_N > limit, torch.zeros_like(value_N, dtype=torch.bool)


def clip_both(summands_NK: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """A token costs at most the limit and at least minus the limit; its gradient is scaled with its value.

    For `sampled` this is the policy gradient with log p(y) - log q(y) clamped on both sides as its constant
    factor, as in ViCuR (arXiv 2606.05718). A divergence that is never negative gets what clip_scale gives.
    """
    value_N = summands_NK.sum(-1)
    size_N = value_N.detach().abs()
    never_N = torch.zeros_like(value_N, dtype=torch.bool)
    return value_N * (limit / size_N.clamp(min=limit)), size_N > limit, never_N


CLIPS: dict[str, Callable[[Tensor, float], tuple[Tensor, Tensor, Tensor]]] = {
    "none": clip_none,
    "token": clip_token,
    "entry": clip_entry,
    "scale": clip_scale,
    "both": clip_both,
}


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Statistics of each token besides its cost, without gradient."""

    divergence_N: Tensor  # before the clip
    clipped_N: Tensor  # bool: the clip changed something
    silent_N: Tensor  # bool: the clip left no gradient
    student_logp_N: Tensor  # of the sampled token, before the loss's temperature
    teacher_logp_N: Tensor  # at the loss's temperature; -inf outside a target's support, 0 without teacher

    @classmethod
    def empty(cls, n: int, device: torch.device) -> TokenStats:
        """Uninitialised statistics of n tokens."""
        numbers_3N = torch.empty(3, n, device=device)
        bools_2N = torch.empty(2, n, device=device, dtype=torch.bool)
        return cls(numbers_3N[0], *bools_2N, *numbers_3N[1:])

    def put(self, where: slice, part: TokenStats) -> None:
        """Copy the statistics of some tokens to the slice `where`."""
        for field in fields(self):
            getattr(self, field.name)[where] = getattr(part, field.name)


def score(
    student_NV: Tensor, teacher_NV: Tensor | None, sampled_N: Tensor, spec: DivergenceSpec
) -> tuple[Tensor, TokenStats]:
    """Compare logits token by token; return the cost of each token, differentiable, and its statistics.

    `teacher_NV` is None for the divergences without a teacher.
    """
    if teacher_NV is not None:
        return _score(student_NV, (teacher_NV / spec.temperature).log_softmax(-1), sampled_N, spec)
    assert spec.divergence in WITHOUT_TEACHER, f"{spec.divergence} needs a teacher"
    cost_N, stats = _score(student_NV, None, sampled_N, spec)
    return cost_N, replace(stats, teacher_logp_N=torch.zeros_like(stats.student_logp_N))


def score_target(
    student_NV: Tensor, logq_NV: Tensor, sampled_N: Tensor, spec: DivergenceSpec
) -> tuple[Tensor, TokenStats]:
    """As `score`, for a target that is given by its log-probabilities; those of some entries may be -inf.

    The temperature divides only the student's logits. A number close to minus infinity takes the place of
    -inf, because 0 * -inf is NaN.
    """
    cost_N, stats = _score(student_NV, logq_NV.clamp(min=NEVER), sampled_N, spec)
    return cost_N, replace(stats, teacher_logp_N=_at(logq_NV, sampled_N)[:, 0].detach())


def _score(
    student_NV: Tensor, logq_NV: Tensor | None, sampled_N: Tensor, spec: DivergenceSpec
) -> tuple[Tensor, TokenStats]:
    """Cost and statistics from the student's logits and the teacher's log-probabilities."""
    logp_NV = (student_NV / spec.temperature).log_softmax(-1)
    if logq_NV is None:  # never read; so that all divergences have one signature
        logq_NV = logp_NV
    p_NK, q_NK = logp_NV, logq_NV
    if (index_Nk := top_k_index(logp_NV, logq_NV, spec)) is not None:
        p_NK, q_NK = (entries_at(x, index_Nk, spec.tail) for x in (logp_NV, logq_NV))
    summands_NK = DIVERGENCES[spec.divergence](p_NK, q_NK, sampled_N, spec)
    cost_N, clipped_N, silent_N = CLIPS[spec.clip](summands_NK, spec.clip_value)
    return cost_N, statistics(student_NV, logp_NV, logq_NV, sampled_N, summands_NK, clipped_N, silent_N, spec)


@torch.no_grad()
def statistics(
    student_NV: Tensor,
    logp_NV: Tensor,
    logq_NV: Tensor,
    sampled_N: Tensor,
    summands_NK: Tensor,
    clipped_N: Tensor,
    silent_N: Tensor,
    spec: DivergenceSpec,
) -> TokenStats:
    """The statistics of tokens, from what their cost was computed from."""
    return TokenStats(
        divergence_N=summands_NK.sum(-1),
        clipped_N=clipped_N,
        silent_N=silent_N,
        student_logp_N=_plain_logp(student_NV, logp_NV, sampled_N, spec.temperature),
        teacher_logp_N=_at(logq_NV, sampled_N)[:, 0],
    )
