"""The types that flow between the folders, from a sample to a loss or a verdict.

    training    Sample -> Prompt -> Rollout -> Segments -> Term (tokens with a teacher and a weight)
    evaluation  Sample -> Response -> Verdict

Glossary
    sample      one problem: images, a question, the reference answer (which the student never sees)
    context     what a model reads before the student's tokens: the student's own, or that of a teacher
    prefill     tokens at the start of the assistant's turn that are given, not sampled; never supervised
    rollout     what the student wrote for one prompt, token by token
    segment     the part of the structured answer that a sampled token belongs to

Shape suffixes of tensors: B rows, T tokens, N supervised tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class Kind(StrEnum):
    """The kind of a sampled token: a row of the routing table (sec. 3.2)."""

    DESCRIPTION = "description"
    REASONING = "reasoning"
    ANSWER = "answer"
    DELIMITERS = "delimiters"
    END = "end"  # the end-of-turn token and everything after the box
    INVALID = "invalid"  # every token of a rollout with a broken format, the end-of-turn token included


@dataclass(frozen=True, slots=True)
class Prior:
    """The usual answer to a sample's question, and whether its picture agrees (PriorWorld, ViLP)."""

    usual: str
    agrees: bool
    fact_stated: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One problem. `answer` may be empty: code that needs an answer counts and leaves out such samples."""

    id: str
    question: str
    answer: str
    images: tuple[Image, ...]
    places: tuple[int, ...] = ()  # of the images in the question as it is asked; see data/image_marks.py
    solution: str | None = None
    options: tuple[str, ...] = ()
    family: str = ""
    prior: Prior | None = None
    group: str = ""  # the cluster for the bootstrap: items of one group are resampled together
    scene: Mapping[str, object] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # columns that a benchmark's own rules need


@dataclass(frozen=True, slots=True)
class Prompt:
    """A context as token ids and image features. `ids` end with the prefill of the assistant's turn."""

    context: str  # the student, or the name of a teacher
    ids: tuple[int, ...]
    prefill: tuple[int, ...]  # the last len(prefill) of ids
    features: Mapping[str, Tensor] = field(default_factory=dict)  # pixel_values, image_grid_thw, ...
    mm_token_types: tuple[int, ...] = ()
    images: tuple[Image, ...] = ()  # for an engine that has its own image processor
    message: tuple[str, ...] = ()  # the user's text cut at its images, for an engine that takes no token ids
    opening: str = ""  # the prefill as text, for the same engine


@dataclass(frozen=True, slots=True)
class Rollout:
    """What was sampled for one prompt. `ends[i]` is the length of the decoded text after token i.

    With an engine that returns only text, `ids` is empty, `ends` has one entry, and `wrote` is the number
    of tokens.
    """

    sample_id: str
    draw: int  # which of the n samples of this prompt
    prompt: Prompt
    ids: tuple[int, ...]  # sampled tokens, with the end-of-turn token if it was sampled
    text: str  # the whole turn with the prefill, without special tokens
    ends: tuple[int, ...]  # one entry for each token of prefill + ids
    finished: bool  # an end-of-turn token was sampled before the length limit
    wrote: int = 0  # the engine's own count of tokens, if `ids` are not known
    refused: str = ""  # the reason, if a server refused to answer
    log_p: tuple[float, ...] = ()  # of each id, before temperature and cuts; () if the sampler gave none


@dataclass(frozen=True, slots=True)
class Segments:
    """The kind of each sampled token, and the text of each part; `reason` says why it is not valid."""

    kinds: tuple[Kind, ...]
    valid: bool
    reason: str
    description: str = ""
    reasoning: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """Tokens of one rollout that one rule of the routing supervises.

    `tokens` are positions in the sampled ids. `weight` is what one of the tokens counts in the loss.
    """

    by: str  # a teacher, a target, `tokens` or `constant`
    kind: Kind
    tokens: tuple[int, ...]
    rule: int = 0  # its place in `supervision_rules`
    edge: bool = False  # the first or last token of its part, with a clip of its own
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Response:
    """One answer to one item of a benchmark. `described` says whether a description was asked for.

    `asked` is a hash of what was asked: question, pictures, adapter. `refused` is the reason if a server
    refused to answer.
    """

    sample_id: str
    draw: int
    text: str
    description: str
    answer: str
    valid: bool
    described: bool
    tokens: int
    finished: bool = True  # it ended before the length limit
    asked: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grading result of one response. `unparsed` counts as wrong, and is also counted separately."""

    verdict: Literal["right", "wrong", "unparsed"]
    extracted: str | None  # the answer found in the response; None if there is none
    rule: str  # the grader that decided: "choice", "number", "math", "text", or a benchmark's own
    reason: str  # a short explanation of the verdict
