"""The types that flow through vigos, one a stage.

    Sample -> Prompt -> Rollout -> Segments -> (routing) -> Term -> loss -> StepReport
    Sample -> Response -> Verdict -> BenchReport

Glossary
    sample      one problem: images, a question, the reference answer (the student never sees the last)
    role        which context a distribution was conditioned on: student, perception, reasoning, ...
    prefill     tokens put at the head of the assistant's turn; never sampled, never supervised
    rollout     what the student wrote for one prompt, token by token
    segment     which part of the structured answer a sampled token belongs to

Shape suffixes used everywhere: B rows, T tokens, N supervised tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class Role(StrEnum):
    """Whose context a token is scored in (paper sec. 3.1); `privileged` is OPSD's teacher (eq. 4)."""

    STUDENT = "student"
    PERCEPTION = "perception"
    REASONING = "reasoning"
    REFERENCE = "reference"
    PRIVILEGED = "privileged"
    TARGET = "target"  # no teacher: cross-entropy on the tokens themselves (the SFT control)


class Kind(StrEnum):
    """What a sampled token is; the rows of a routing table (sec. 3.2)."""

    DESCRIPTION = "description"
    REASONING = "reasoning"
    ANSWER = "answer"
    DELIMITERS = "delimiters"
    END = "end"  # the end-of-turn token and anything after the box
    INVALID = "invalid"  # every token of a rollout whose format broke, the end of turn included


@dataclass(frozen=True, slots=True)
class Prior:
    """What a sample's usual answer is, and whether its picture agrees with it (PriorWorld, ViLP)."""

    usual: str
    agrees: bool
    fact_stated: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One problem. `answer` may be empty: such a row is counted and left out by whoever needs one."""

    id: str
    question: str
    answer: str
    images: tuple[Image, ...]
    solution: str | None = None
    options: tuple[str, ...] = ()
    family: str = ""
    prior: Prior | None = None
    group: str = ""  # items that share it are resampled together (the cluster of a bootstrap)
    scene: Mapping[str, object] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # of a benchmark's row, for its own rules


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered context, ready for the model: ids end with the pre-filled head of the assistant's turn."""

    role: Role
    ids: tuple[int, ...]
    prefill: tuple[int, ...]  # the last len(prefill) of ids
    features: Mapping[str, Tensor] = field(default_factory=dict)  # pixel_values, image_grid_thw, ...
    mm_token_types: tuple[int, ...] = ()
    images: tuple[Image, ...] = ()  # as pictures, for an engine that has its own processor
    message: str = ""  # the user's text and the pre-fill, for an engine that is told no token ids
    opening: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What was sampled for one prompt. `ends[i]` is the length of the text once token i has been decoded.

    An engine that gives text alone leaves `ids` empty, `ends` with one entry, and says how much it `wrote`.
    """

    sample_id: str
    draw: int  # which of the n samples of this prompt
    prompt: Prompt
    ids: tuple[int, ...]  # sampled tokens, the end-of-turn token included when it was drawn
    text: str  # the whole turn, prefill included, special tokens left out
    ends: tuple[int, ...]  # one a token of prefill + ids
    finished: bool  # drew an end-of-turn token before the length limit
    wrote: int = 0  # tokens, by the engine's own count, where `ids` are not known
    refused: str = ""  # why a server would not answer


@dataclass(frozen=True, slots=True)
class Segments:
    """One kind a sampled token, and the texts of the parts. `reason` says what broke when not valid."""

    kinds: tuple[Kind, ...]
    valid: bool
    reason: str
    description: str = ""
    reasoning: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """Tokens of one rollout that one teacher supervises. `tokens` index the rollout's sampled ids."""

    role: Role
    kind: Kind
    tokens: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Response:
    """One answer to one item of a benchmark. `described` says whether a description was asked for.

    `asked` stands for what was asked: question, pictures, adapter. `refused` is why a server gave no answer.
    """

    sample_id: str
    draw: int
    text: str
    description: str
    answer: str
    valid: bool
    described: bool
    tokens: int
    finished: bool = True  # before the length limit
    asked: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one response. `unparsed` is wrong, and counted apart."""

    verdict: Literal["right", "wrong", "unparsed"]
    extracted: str | None  # the answer that was found in the response, None where there was none
    rule: str  # which grader decided: "choice", "number", "math", "text", a benchmark's own
    reason: str  # one short clause, for a person who doubts it
