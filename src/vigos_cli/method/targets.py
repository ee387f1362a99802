"""Compose the distribution that the student learns from out of several teacher contexts.

    log q = log base + scale * f(log plus - log minus) - log Z      inside the support, -inf outside

`base`, `plus` and `minus` are names of contexts: the same prefix of the student, scored with another picture,
another text or other weights. What one context knows and the other does not moves the base. The published
targets of this form differ only in their contexts and options:

    VCSD, arXiv 2607.21556            Contrast("image", "image", "black", support_of="image")
    opsd_ectr, arXiv 2606.11709       Contrast("right", "right", "wrong", scale=0.5, floor=-5)
    Purified OPSD, arXiv 2607.02234   Contrast("plain", "both", "alone", centre=True, tanh=10)
    VGS, arXiv 2606.00564             Contrast("blind_student", "image", "no_image")
    trust region of SDPO, 2601.20802  Contrast("initial", "live", "initial", scale=0.05)

    >>> logits = {"image": torch.tensor([[0.0, math.log(3)]]), "black": torch.tensor([[0.0, 0.0]])}
    >>> contrast(logits, Contrast("image", "image", "black")).exp()
    tensor([[0.1000, 0.9000]])

Shapes: R rows (tokens), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.utils.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Contrast:
    """A target made of named contexts; the same name may occur several times."""

    base: str
    plus: str
    minus: str
    scale: float = 1.0
    centre: bool = False  # f first subtracts the mean of the difference over the vocabulary
    tanh: float | None = None  # c: f then limits the difference D softly, to c tanh(D / c)
    floor: float | None = None  # log minus is at least this
    support_of: str | None = None  # the support: what this context finds likely enough; None: all entries
    support_share: float = 0.1  # at least this share of the context's largest probability
    exempt: tuple[int, ...] = ()  # token ids that keep the base: f is 0 there
    temperature: str = "before"  # divides the logits of the contexts (before), or log q (after)

    def __post_init__(self) -> None:
        bounds = {
            "scale must be a finite number": math.isfinite(self.scale),
            "tanh must be above 0": self.tanh is None or self.tanh > 0,
            "floor is a log-probability and must be below 0": self.floor is None or self.floor < 0,
            "support_share must be above 0 and at most 1": 0 < self.support_share <= 1,
            "exempt must hold token ids of at least 0": all(token >= 0 for token in self.exempt),
            "temperature must be before or after": self.temperature in ("before", "after"),
        }
        for complaint, fine in bounds.items():
            if not fine:
                raise ConfigError(f"targets: {complaint}")

    @property
    def contexts(self) -> tuple[str, ...]:
        """The contexts that must be scored, each once."""
        names = (self.base, self.plus, self.minus, self.support_of)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def needs_normalised(self) -> bool:
        """Whether f changes if a constant is added to the logits of `plus` or `minus`.

        Otherwise the normalisers of both end up in log Z and need not be computed.
        """
        return self.floor is not None or (not self.centre and (self.tanh is not None or bool(self.exempt)))


def check(target: Contrast, spec: DivergenceSpec) -> None:
    """Refuse a target with a support under a divergence that is infinite or undefined on its zeros."""
    if target.support_of is None:
        return
    if spec.divergence in ("reverse_kl", "sampled") or (spec.divergence == "jsd" and spec.beta == 1):
        name = "jsd with beta=1" if spec.divergence == "jsd" else spec.divergence
        raise ConfigError(
            f"divergence {name} is infinite where the target is 0, and a target with a support has zeros: "
            "use forward_kl, jsd or skew_kl, or remove the support"
        )
    if spec.top_k is not None and spec.top_k_of == "student" and spec.tail == "renormalise":
        raise ConfigError(
            "top_k_of=student with tail=renormalise may keep only entries outside the target's support: "
            "use tail=bucket or top_k_of=teacher, or remove the support"
        )


@torch.no_grad()
def contrast(logits: Mapping[str, Tensor], spec: Contrast, temperature: float = 1.0) -> Tensor:
    """The log-probabilities of the target, without gradient; its contexts are logits of shape RV.

    With temperature="before" (the code of VCSD) the logits of all contexts are divided first, so difference
    and support are those of the softened contexts. With "after" the target is composed at temperature 1 and
    its log-probabilities are divided and normalised again. The student's logits are divided in both cases, by
    `losses.score_target`. `centre` means over the whole vocabulary, exempt entries included.
    """
    before, after = (temperature, 1.0) if spec.temperature == "before" else (1.0, temperature)
    soft = {name: logits[name] if before == 1 else logits[name] / before for name in spec.contexts}
    plus_RV, minus_RV = soft[spec.plus], soft[spec.minus]
    if spec.needs_normalised:
        plus_RV, minus_RV = plus_RV.log_softmax(-1), minus_RV.log_softmax(-1)
    if spec.floor is not None:
        minus_RV = minus_RV.clamp(min=spec.floor)
    q_RV = plus_RV - minus_RV  # a new tensor: all that follows changes it in place
    if spec.centre:
        q_RV -= q_RV.mean(-1, keepdim=True)
    if spec.tanh is not None:
        q_RV.div_(spec.tanh).tanh_().mul_(spec.tanh)
    if spec.exempt:
        q_RV[..., list(spec.exempt)] = 0
    if spec.scale != 1:
        q_RV *= spec.scale
    q_RV += soft[spec.base]
    if spec.support_of is not None:
        of_RV = soft[spec.support_of]
        limit_R1 = of_RV.amax(-1, keepdim=True) + math.log(spec.support_share)
        q_RV.masked_fill_(of_RV < limit_R1, -math.inf)
    if after != 1:
        q_RV /= after
    return q_RV.log_softmax(-1)
