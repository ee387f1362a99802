"""The groups `loss` and `teacher`: the values that a routing leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_share


@dataclass
class LossConfig:
    """The divergence between student and teachers, its clip, and the weights of the parts (eq. 18-21).

    A key that the routing states for a part (`routing.supervise`) is not read for that part.
    """

    name: str = "vigos"  # name of the option; appears in reports
    divergence: str = "forward_kl"  # divergence on every part except `invalid`
    invalid: str = "reverse_kl"  # divergence on rollouts with an invalid format
    description_weight: float = 1.0  # weight of the description
    reasoning_weight: float = 1.0  # weight of reasoning and answer
    invalid_weight: float = 2.0  # weight of rollouts with an invalid format
    clip: str = "token"  # above clip_value: none (no limit), token, entry, both (no gradient), scale (less)
    clip_value: float = 0.05  # limit in nats for a token's divergence; for entry: of each of its summands
    temperature: float = 1.0  # divides the logits of both distributions
    beta: float = 0.5  # jsd: the teacher's share of the mixture
    alpha: float = 0.1  # skew_kl: the teacher's share of the mixture with the student
    top_k: int | None = None  # only the most probable entries, and the others by `tail`; null: all entries
    top_k_of: str = "teacher"  # top_k: whose most probable entries, teacher or student
    tail: str = "bucket"  # top_k: bucket (the other entries as one) or renormalise (the kept entries)
    reduction: str = "term_tokens"  # term_tokens (a mean over the batch per teacher) or rollout (per rollout)
    chunk: int | None = None  # token positions that are projected to the vocabulary at once; null: chosen

    def __post_init__(self) -> None:
        for key in ("divergence", "invalid", "clip", "top_k_of", "tail", "reduction"):
            check_choice(f"loss.{key}", getattr(self, key))
        check_at_least(
            0,
            loss__description_weight=self.description_weight,
            loss__reasoning_weight=self.reasoning_weight,
            loss__invalid_weight=self.invalid_weight,
        )
        check_positive(loss__clip_value=self.clip_value, loss__temperature=self.temperature)
        check_share(loss__beta=self.beta, loss__alpha=self.alpha)
        check_at_least(1, loss__top_k=self.top_k, loss__chunk=self.chunk)


@dataclass
class TeacherConfig:
    """The weights of the teachers whose routing states none."""

    name: str = "base"  # name of the option; appears in reports
    weights: str = "base"  # base (no adapter), ema (average of the adapter), live (current adapter)
    ema_rate: float = 0.001  # ema: share of the new student in the average, at each step

    def __post_init__(self) -> None:
        check_choice("teacher.weights", self.weights)
        check_share(teacher__ema_rate=self.ema_rate)
