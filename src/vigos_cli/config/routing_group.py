"""The group `routing`: the student, its teachers, their targets, and who supervises what.

    student:   {format: structured, sees: image}
    teachers:
      perception: {sees: image}                                     # no text at all
      reasoning:  {sees: image, told: [question, answer], prompt: reasoning}
      fallback:   {sees: image, told: [question, answer], prompt: reference}
    supervise: {description: perception, reasoning: reasoning, answer: reasoning, invalid: fallback}

docs/routing.md explains every key. The checks of a whole routing are in `vigos_cli.config.routing_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from vigos_cli.config.checks import check_choice

STUDENT = "student"  # the student's own context, beside those of the teachers
CAPTION = "caption"  # the student's context without a question, with which `writes: caption` asks
TOKENS, CONSTANT = "tokens", "constant"  # supervised by the tokens themselves, or by a fixed advantage
WITHOUT_TEACHER = (TOKENS, CONSTANT)


@dataclass
class StudentContext:
    """What the student is shown and what it writes."""

    format: str = "structured"  # structured (describe, think, answer) or think (think, answer)
    sees: Any = "image"  # picture in training: as `sees` of a teacher; in evaluations always the own one
    writes: str = "rollout"  # rollout; reference (SFT: its own description, then the reference); caption
    spans: str = "paper"  # paper: only the content of each part; code: the wider spans of the authors' code


@dataclass
class TeacherContext:
    """One teacher: what it is shown and told, how much of the student's turn it reads, and its weights."""

    sees: Any = "image"  # a word such as image or black, or a mapping: docs/routing.md has all
    told: list[Any] = field(default_factory=list)  # question, answer, ...: docs/routing.md has all
    prompt: str | None = None  # template of the prompt group; null: the one that fits `told`
    prefix: str = "turn"  # of the student's turn: turn, think, think_code, no_prefill
    weights: Any = None  # initial, live, {ema: RATE}, {every: STEPS}, a path; null: those of `teacher`
    missing: str = "error"  # a column that a row does not have: error, or skip (no supervision)


@dataclass
class TargetConfig:
    """A target of several teachers: log q = log base + scale * f(log plus - log minus) - log Z."""

    base: str = ""  # teacher whose distribution is changed
    plus: str = ""  # teacher towards which it is changed
    minus: str = ""  # teacher away from which it is changed
    scale: float = 1.0  # factor of the difference
    centre: bool = False  # the difference has the mean 0 over the vocabulary
    tanh: float | None = None  # c: the difference D becomes c tanh(D / c); null: it stays
    floor: float | None = None  # log minus is at least this; null: no floor
    support: Any = None  # {of: NAME, share: S}: only entries with at least S times the largest q of NAME
    exempt: list[str] = field(default_factory=list)  # tokens for which the difference is 0
    temperature: str = "before"  # loss.temperature divides the logits before or after the composition


@dataclass
class SuperviseConfig:
    """Who supervises each part: none, a teacher, a target, tokens, constant, a term, or a list of these."""

    description: Any = None  # the description's tokens
    reasoning: Any = None  # the reasoning's tokens
    answer: Any = None  # the tokens inside the box
    delimiters: Any = None  # tags, `\boxed{` and `}`
    end: Any = None  # the end-of-turn token and all tokens after the box
    invalid: Any = None  # every token of a rollout with an invalid format
    all: Any = None  # every token of every rollout; beside it no other part can be named


@dataclass
class SupervisedRollouts:
    """Which rollouts of a group are supervised."""

    supervise: Any = "all"  # all, with_sibling, or {disagreeing: K}: at most K outside the majority


@dataclass
class RoutingConfig:
    """The student, its teachers, and which of them supervises which part of the student's turn."""

    name: str = "vigos"  # name of the option; appears in reports
    student: StudentContext = field(default_factory=StudentContext)
    teachers: dict[str, TeacherContext] = field(default_factory=dict)  # by name
    targets: dict[str, TargetConfig] = field(default_factory=dict)  # by name
    supervise: SuperviseConfig = field(default_factory=SuperviseConfig)
    rollouts: SupervisedRollouts = field(default_factory=SupervisedRollouts)

    def __post_init__(self) -> None:
        for key in ("format", "writes", "spans"):
            check_choice(f"routing.student.{key}", getattr(self.student, key))


PARTS = tuple(item.name for item in fields(SuperviseConfig))
