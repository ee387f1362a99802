"""The groups `routing`, `loss` and `teacher`, which define the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_share
from vigos_cli.config.choices import KINDS


@dataclass
class RoutingConfig:
    """Which teacher supervises which kind of token: one role, a list of roles, or none."""

    name: str = "vigos"  # name of the option; appears in reports
    student: str = "structured"  # format: structured (describe, think, answer) or plain (think, answer)
    description: Any = "perception"  # teacher of the description's tokens
    reasoning: Any = "reasoning"  # teacher of the reasoning's tokens
    answer: Any = "reasoning"  # teacher of the tokens inside the box
    delimiters: Any = "none"  # teacher of tags, `\boxed{` and `}`
    end: Any = "none"  # teacher of the end-of-turn token and of all tokens after the box
    invalid: Any = "reference"  # teacher of every token of a rollout with an invalid format
    spans: str = "paper"  # paper: only the content of each part; code: the wider spans of the authors' code
    reasoning_sees_description: bool = True  # the reasoning teacher sees the student's description
    perception_sees_prefill: bool = True  # the perception teacher's turn starts with the prefill
    reference_text: str = "answer"  # what the teachers are given: answer, solution, other_answer (control)
    perception_image: str = "own"  # image of the perception teacher: own (the sample's), noise (control)
    completion: str = "student"  # student (rollouts), reference (SFT), two_pass (pasted caption, no training)

    def __post_init__(self) -> None:
        for key in ("student", "spans", "reference_text", "perception_image", "completion"):
            check_choice(f"routing.{key}", getattr(self, key))
        for kind in KINDS:
            for role in _as_list(getattr(self, kind)):
                check_choice(f"routing.{kind}", role)

    def roles(self, *kinds: str) -> set[str]:
        """The teachers of these kinds of token, `none` included."""
        return {role for kind in kinds for role in _as_list(getattr(self, kind))}


def _as_list(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


@dataclass
class LossConfig:
    """The divergence between student and teachers, and the weights of its terms (eq. 18-21)."""

    name: str = "vigos"  # name of the option; appears in reports
    segment: str = "forward_kl"  # divergence for every teacher except the reference teacher
    reference: str = "reverse_kl"  # divergence for the reference teacher
    description_weight: float = 1.0  # weight of the description term
    reasoning_weight: float = 1.0  # weight of the reasoning and answer term
    reference_weight: float = 2.0  # weight of the reference term
    clip: str = "token"  # above clip_value: none (no limit), token and entry (no gradient), scale (less)
    clip_value: float = 0.05  # limit in nats for a token's divergence; for entry: of each of its summands
    temperature: float = 1.0  # divides the logits of both distributions
    beta: float = 0.5  # jsd: the teacher's share of the mixture
    alpha: float = 0.1  # skew_kl: the teacher's share of the mixture with the student
    top_k: int = 64  # topk_kl: number of entries kept, those most probable under the teacher
    tail: str = "bucket"  # topk_kl: bucket (the other entries as one) or renormalise (the kept entries)
    reduction: str = "term_tokens"  # term_tokens (mean per term over the batch) or rollout (mean per rollout)
    chunk: int = 64  # number of token positions that are projected to the vocabulary at once

    def __post_init__(self) -> None:
        for key in ("segment", "reference", "clip", "tail", "reduction"):
            check_choice(f"loss.{key}", getattr(self, key))
        check_at_least(
            0,
            loss__description_weight=self.description_weight,
            loss__reasoning_weight=self.reasoning_weight,
            loss__reference_weight=self.reference_weight,
        )
        check_positive(loss__clip_value=self.clip_value, loss__temperature=self.temperature)
        check_share(loss__beta=self.beta, loss__alpha=self.alpha)
        check_at_least(1, loss__top_k=self.top_k, loss__chunk=self.chunk)


@dataclass
class TeacherConfig:
    """The weights of the teachers."""

    name: str = "base"  # name of the option; appears in reports
    weights: str = "base"  # base (no adapter), ema (average of the adapter), live (current adapter)
    ema_decay: float = 0.999  # ema: share of the old average that each step keeps

    def __post_init__(self) -> None:
        check_choice("teacher.weights", self.weights)
        check_share(teacher__ema_decay=self.ema_decay)
