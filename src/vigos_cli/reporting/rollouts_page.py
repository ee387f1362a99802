"""Write an HTML page that shows rollouts token by token.

    size = write_page(out / "rollouts.html", rollouts, "base, greedy", {"model": "tiny", "valid": "0.91"})

    list of ShownRollout -> JSON island -> rollouts.html.j2, whose script builds each rollout when it is
                                           scrolled to

`vigos rollout` writes `rollouts.html`. All texts are untrusted: questions come from other people's data,
answers from a model. Three measures keep them harmless:
    island    no text is part of the markup: all texts are JSON in ASCII, with `<`, `>` and `&` escaped
    nodes     the script turns texts into text nodes, never into markup
    policy    the page forbids all requests, and every script or style but its own two, named by their digests
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.reporting.embedded_images import ImageTable
from vigos_cli.reporting.html import page_environment
from vigos_cli.types import Kind
from vigos_cli.utils.files import drafted

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL.Image import Image

KINDS = [kind.value for kind in Kind]
TEXT_LIMIT = 20_000  # characters of one text; the middle of a longer text is left out

Text = str | list[str | int]  # a text, or its beginning, the number of characters left out, and its end


@dataclass(frozen=True, slots=True)
class ShownToken:
    """One token of a turn, or a piece of text without numbers; all numbers are in nats.

    `kind` is the value of a Kind, None for a pre-filled token. `student` is the log-probability under the
    student. `teacher` names who supervises the token; if there is none, it and its two numbers are None. The
    last three are None unless they were asked for: c^A and c^I (vigos_cli.analysis.palr), and the KL to the
    student that sees a grey picture.
    """

    text: str
    kind: str | None
    student: float | None
    teacher: str | None
    teacher_logprob: float | None
    kl: float | None
    answer_support: float | None = None
    image_support: float | None = None
    visual: float | None = None


@dataclass(frozen=True, slots=True)
class ShownRollout:
    """One sampled turn and its verdict.

    `conflict`: whether the picture contradicts the usual answer; None if there is no usual answer.
    """

    id: str
    draw: int
    question: str
    reference: str
    answer: str
    valid: bool
    reason: str
    correct: bool
    conflict: bool | None
    images: tuple[Image, ...]
    tokens: tuple[ShownToken, ...]


def write_page(
    path: Path,
    rollouts: Sequence[ShownRollout],
    title: str,
    facts: Mapping[str, str],
    picture: str = "",
) -> int:
    """Write the page, completely or not at all, and return its size in bytes."""
    content = page(rollouts, title, facts, picture).encode("utf-8")
    with drafted(path) as draft:
        draft.write_bytes(content)
    return len(content)


def page(rollouts: Sequence[ShownRollout], title: str, facts: Mapping[str, str], picture: str = "") -> str:
    """The page as text; under the title are `facts` (model, adapter, rates) and the `picture`, a data URI."""
    images = ImageTable()
    teachers = sorted({token.teacher for r in rollouts for token in r.tokens if token.teacher is not None})
    island = {
        "title": clip(title),
        "facts": [[clip(name), clip(value)] for name, value in facts.items()],
        "kinds": KINDS,
        "teachers": teachers,
        "columns": [field.name for field in fields(ShownToken)],
        "rollouts": [
            {
                "id": clip(r.id),
                "draw": r.draw,
                "question": clip(r.question),
                "reference": clip(r.reference),
                "answer": clip(r.answer),
                "valid": r.valid,
                "reason": clip(r.reason),
                "correct": r.correct,
                "conflict": r.conflict,
                "images": [images.add(image) for image in r.images],
                "tokens": [_row(token, teachers) for token in r.tokens],
            }
            for r in rollouts
        ],
        "images": images.uris,  # the last key, so that a person who reads the file finds the rollouts first
    }
    return _template().render(island=island, kinds=KINDS, picture=picture)


def clip(text: str, limit: int = TEXT_LIMIT) -> Text:
    """The text; if it is too long, its beginning, the number of characters left out, and its end."""
    half = limit // 2
    return text if len(text) <= limit else [text[:half], len(text) - 2 * half, text[-half:]]


def _row(token: ShownToken, teachers: Sequence[str]) -> list[Any]:
    """The values of a token in the order of `columns`; names become indices, to keep the page small."""
    return [
        clip(token.text),
        None if token.kind is None else KINDS.index(token.kind),
        _number(token.student),
        None if token.teacher is None else teachers.index(token.teacher),
        _number(token.teacher_logprob),
        *[_number(value) for value in (token.kl, token.answer_support, token.image_support, token.visual)],
    ]


def _number(value: float | None) -> float | str | None:
    """Four significant digits; JSON has no infinity, so it is written by its name, which the script reads."""
    if value is None or math.isfinite(value):
        return None if value is None else float(f"{value:.4g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@cache
def _template() -> Template:
    return page_environment().get_template("rollouts.html.j2")
