"""The groups `routing`, `loss` and `teacher`: the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_share
from vigos_cli.config.choices import KINDS


@dataclass
class RoutingConfig:
    """The method: which teacher supervises which kind of token (a cell is a role, a list, or none)."""

    name: str = "vigos"  # the option's name, used in reports
    student: str = "structured"  # structured (describe, think, answer) or plain (think, answer)
    description: Any = "perception"  # teacher of the description's tokens
    reasoning: Any = "reasoning"  # teacher of the rationale's tokens
    answer: Any = "reasoning"  # teacher of the tokens inside the box
    delimiters: Any = "none"  # teacher of tags, `\boxed{` and `}`
    end: Any = "none"  # teacher of the end-of-turn token and of what follows the box
    invalid: Any = "reference"  # teacher of every token of a rollout whose format broke
    spans: str = "paper"  # paper: content tokens only; code: the wider spans of the authors' program
    reasoning_sees_description: bool = True  # the reasoning teacher's prefix holds the student's description
    perception_sees_prefill: bool = True  # the perception teacher's turn starts with the student's pre-fill
    reference_text: str = "answer"  # what the teachers are told: answer, solution, or other_answer (control)
    perception_image: str = "own"  # own, or noise (control): what the perception teacher sees
    completion: str = "student"  # student rollouts; reference (SFT); two_pass (caption pasted, no training)

    def __post_init__(self) -> None:
        for key in ("student", "spans", "reference_text", "perception_image", "completion"):
            check_choice(f"routing.{key}", getattr(self, key))
        for kind in KINDS:
            for role in _as_list(getattr(self, kind)):
                check_choice(f"routing.{kind}", role)

    def roles(self, *kinds: str) -> set[str]:
        """The words that stand in the cells of these kinds of token."""
        return {role for kind in kinds for role in _as_list(getattr(self, kind))}


def _as_list(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


@dataclass
class LossConfig:
    """How far the student is from its teachers, and how tokens are weighed (eq. 18-21)."""

    name: str = "vigos"  # the option's name, used in reports
    segment: str = "forward_kl"  # divergence on tokens of the segment teachers
    reference: str = "reverse_kl"  # divergence on tokens of the reference teacher
    description_weight: float = 1.0  # weight of the description's term
    reasoning_weight: float = 1.0  # weight of the reasoning and answer term
    reference_weight: float = 2.0  # weight of the reference term
    clip: str = "token"  # none; token or entry: no gradient above clip_value; scale: held, gradient kept
    clip_value: float = 0.05  # nats a token (entry: nats a vocabulary entry); see zero_gradient_rate
    temperature: float = 1.0  # softens both distributions
    beta: float = 0.5  # jsd: weight of the teacher in the mixture
    alpha: float = 0.1  # skew_kl: weight of the teacher mixed into the student
    top_k: int = 64  # topk_kl: entries kept, by the teacher's probability
    tail: str = "bucket"  # topk_kl: the rest as one bucket, or renormalise the kept entries
    reduction: str = "term_tokens"  # one mean per term over the batch's tokens, or a mean per rollout
    chunk: int = 64  # token positions projected to the vocabulary at a time

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
    """Whose weights the teachers use."""

    name: str = "base"  # the option's name, used in reports
    weights: str = "base"  # base (adapter off), ema (average of the adapter), live (the current adapter)
    ema_decay: float = 0.999  # ema: share of the old average kept each step

    def __post_init__(self) -> None:
        check_choice("teacher.weights", self.weights)
        check_share(teacher__ema_decay=self.ema_decay)
