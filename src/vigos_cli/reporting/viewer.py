"""The page of `vigos rollout`: one HTML file that shows what was sampled, token by token.

    size = write_page(out / "rollouts.html", rollouts, "base, greedy", {"model": "tiny", "valid": "0.91"})

    ShownRollout -> JSON island -> page.html, whose script builds what is on the screen when it gets there

Everything shown is untrusted: questions come from other people's data, answers from a model. So the page
keeps three promises, whatever the texts hold:
    island    no text is part of the markup: all travels as JSON, in ASCII, with `<`, `>` and `&` escaped
    nodes     the script turns it into text nodes and never into markup
    policy    the page forbids itself any request, and any script or style but its own two, named by digest
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.types import Kind
from vigos_cli.utils.files import drafted

TEMPLATES = Path(__file__).with_name("templates")  # of the HTML pages

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL.Image import Image

KINDS = [kind.value for kind in Kind]
SIDE = 512  # longest side of an embedded picture, in pixels
LIGHT = 64 * 1024  # bytes of a picture up to which it is embedded exactly
TEXT_LIMIT = 20_000  # characters of one text; what is left out of its middle is counted there
ROLLOUTS = {"all": "rollouts", "format": "format", "valid": "valid", "invalid": "invalid"}

Text = str | list[str | int]  # a text, or its head, how many characters were left out, and its tail


@dataclass(frozen=True, slots=True)
class ShownToken:
    """One token of a turn, or a piece of one without any number; numbers are in nats.

    `kind` is a Kind's value, None for a pre-filled token.
    `student` is the log-probability under the student; `teacher` names the role that supervises the token,
    and is None, as are its two numbers, where none does. The last three are None where nobody asked for them:
    c^A and c^I (vigos_cli.analysis.palr), and the KL to a student that sees a grey picture.
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
    """One turn and what became of it. `conflict`: the picture contradicts the usual answer; None: no such."""

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
    words: Mapping[str, str] = ROLLOUTS,
) -> int:
    """Write the page and return its size in bytes; a page that exists is whole."""
    content = page(rollouts, title, facts, words).encode("utf-8")
    with drafted(path) as draft:
        draft.write_bytes(content)
    return len(content)


def page(
    rollouts: Sequence[ShownRollout],
    title: str,
    facts: Mapping[str, str],
    words: Mapping[str, str] = ROLLOUTS,
) -> str:
    """The page as text. `facts` stand under the title: model, adapter, rates; `words` name what is shown."""
    album = Album()
    teachers = sorted({token.teacher for r in rollouts for token in r.tokens if token.teacher is not None})
    island = {
        "title": clip(title),
        "facts": [[clip(name), clip(value)] for name, value in facts.items()],
        "words": dict(words),
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
                "images": [album.add(image) for image in r.images],
                "tokens": [_row(token, teachers) for token in r.tokens],
            }
            for r in rollouts
        ],
        "images": album.uris,  # last of the keys: a person who reads the file meets the rollouts first
    }
    return _template().render(island=island, kinds=KINDS, words=words)


def clip(text: str) -> Text:
    """A text as it is, or its two ends and between them the number of characters left out."""
    half = TEXT_LIMIT // 2
    return text if len(text) <= TEXT_LIMIT else [text[:half], len(text) - 2 * half, text[-half:]]


def counted(total: int, limit: int) -> str:
    """How many there are, and how many of them a page of at most `limit` shows."""
    return f"{total}, of which {limit} are shown" if total > limit else str(total)


def _row(token: ShownToken, teachers: Sequence[str]) -> list[Any]:
    """A token in the order of `columns`; names as indices, for they recur by the thousand."""
    return [
        clip(token.text),
        None if token.kind is None else KINDS.index(token.kind),
        _number(token.student),
        None if token.teacher is None else teachers.index(token.teacher),
        _number(token.teacher_logprob),
        *[_number(value) for value in (token.kl, token.answer_support, token.image_support, token.visual)],
    ]


def _number(value: float | None) -> float | str | None:
    """Four significant digits; JSON has no infinity, so the script reads it from its name."""
    if value is None or math.isfinite(value):
        return None if value is None else float(f"{value:.4g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class Album:
    """The distinct pictures of a page: draws of one prompt share theirs."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._places: dict[object, int] = {}

    def add(self, image: Image) -> int:
        """The picture's place among `uris`; it is encoded when it is first met."""
        if id(image) not in self._places:  # the caller's rollouts keep it alive, so the id stays its own
            content = (image.mode, image.size, sha256(image.tobytes()).digest())
            if content not in self._places:
                self._places[content] = len(self.uris)
                self.uris.append(data_uri(image))
            self._places[id(image)] = self._places[content]
        return self._places[id(image)]


def data_uri(image: Image) -> str:
    """The picture, at most SIDE pixels on its longer side: exact as PNG, or a large photograph as JPEG."""
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    image = shrunk(image)
    kind, content = "png", _encoded(image, "PNG")
    if len(content) > LIGHT and image.mode != "RGBA":  # JPEG knows no transparency
        kind, content = min((kind, content), ("jpeg", _encoded(image, "JPEG")), key=lambda one: len(one[1]))
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def shrunk(image: Image) -> Image:
    """The picture, at most SIDE pixels on its longer side."""
    from PIL.Image import Resampling

    if (longer := max(image.size)) <= SIDE:
        return image
    size = (max(1, round(image.width * SIDE / longer)), max(1, round(image.height * SIDE / longer)))
    return image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)


def _encoded(image: Image, form: str) -> bytes:
    image.save(file := BytesIO(), form, quality=88, icc_profile=None)  # a profile may outweigh the picture
    return file.getvalue()


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `tojson` escapes what could end the island; the rest is ASCII, so lone surrogates pass as well.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["digest"] = lambda text: b64encode(sha256(str(text).encode()).digest()).decode()
    return environment.get_template("rollouts.html.j2")
