"""Parse the fields of rows, and write options and image marks as text for prompts.

>>> labelled(("red", "blue"))
'(A) red\\n(B) blue'
>>> order_images(["See <image 2> and <image 1>."], there=[1, 2])
(['See [image 1] and [image 2].'], [2, 1])
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vigos_cli.data.images import BadRow
from vigos_cli.utils.errors import UserError

if TYPE_CHECKING:
    from vigos_cli.evaluation.row_reader import RowReader

PLACE = re.compile(r"<image\s*(\d+)>")
BARE = re.compile(r"[ \t]*<image>[ \t]*")
LABEL = re.compile(r"(?:^|(?<=[\s,;]))\(?([A-Z])[.:)]\s*")
LETTERED = re.compile(r"\(?[A-Z]\)?")


def text_field(row: Mapping[str, Any], column: str) -> str:
    """A column as stripped text; "" for a missing value. Raises BadRow if it is not text or a number."""
    value = row.get(column)
    if value is None or value != value:
        return ""
    if not isinstance(value, str | int | float):
        raise BadRow("not_text")
    return str(value).strip()


def required_field(row: Mapping[str, Any], column: str) -> str:
    """Like `text_field`, but raises BadRow `missing_COLUMN` for an empty text."""
    value = text_field(row, column)
    if not value:
        raise BadRow(f"missing_{column}")
    return value


def list_field(value: Any, column: str = "options") -> list[str]:
    """Texts from a list, or from a list written as a Python literal. Raises BadRow `COLUMN_unreadable`.

    `ast.literal_eval` parses the text; it accepts only literals and runs no code.
    """
    if isinstance(value, str):
        if not value.strip():
            return []
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise BadRow(f"{column}_unreadable") from error
    if value is None or value != value:
        return []
    if not isinstance(value, list | tuple):
        raise BadRow(f"{column}_unreadable")
    return [str(item).strip() for item in value]


def mapping_field(value: Any) -> Mapping[str, Any]:
    """A mapping, also from JSON text; empty for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def paragraphs(*parts: str) -> str:
    """The non-empty parts, one on each line."""
    return "\n".join(part for part in parts if part)


# ---------------------------------------------------------------- options


def letter(index: int) -> str:
    """The label of the option at `index`."""
    return chr(ord("A") + index)


def labelled(options: Iterable[str]) -> str:
    """Options as `(A) red`, one on each line."""
    return "\n".join(f"({letter(i)}) {option}" for i, option in enumerate(options))


def inlined(question: str) -> tuple[str, ...]:
    """The options listed in the text of a question as `A. x`, `A: x` or `(A) x`; empty if fewer than two.

    The labels start with A. An option ends where the next label starts, the last one at the end of its line.
    """
    found: list[re.Match[str]] = []
    for match in LABEL.finditer(question):
        if match[1] == letter(len(found)):
            found.append(match)
        elif match[1] == "A":  # the earlier A was a word of the sentence; the options start here
            found = [match]
    if len(found) < 2:
        return ()
    ends = [match.start() for match in found[1:]]
    last = question.find("\n", found[-1].end())
    ends.append(len(question) if last < 0 else last)
    return tuple(question[match.end() : end].strip(" \n\t,;") for match, end in zip(found, ends, strict=True))


def options_for(gold: str, question: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The options for grading: the item's own, or those in the question if the gold answer is a letter."""
    if options or not LETTERED.fullmatch(gold):
        return tuple(options)
    return inlined(question)


# ---------------------------------------------------------------- pictures


def order_images(texts: Sequence[str], there: Sequence[int] | None) -> tuple[list[str], list[int]]:
    """The texts with `<image i>` replaced by `[image k]`, and the columns in the order they are shown.

    All pictures are shown before the text, in the order in which the texts refer to them; pictures without a
    reference come last. k counts in that order. If there is only one picture, its mark is removed from the
    start and the end of the question, where it is not part of a sentence. Raises UserError for a mark without
    its picture. If `there` is None, pictures are not read, and all that the texts refer to count as present.
    """
    mentioned = [int(i) for part in texts for i in PLACE.findall(part)]
    order = list(dict.fromkeys([*mentioned, *(there or ())]))
    if there is not None and (absent := sorted(set(order) - set(there))):
        raise UserError(f"refers to image {absent[0]}, which it does not have")
    if len(order) == 1:
        question, *others = texts
        texts = [re.sub(rf"^\s*{PLACE.pattern}|{PLACE.pattern}\s*$", "", question).strip(), *others]
    return [PLACE.sub(lambda m: f"[image {order.index(int(m[1])) + 1}]", part) for part in texts], order


def question_and_images(
    pictures: Mapping[int, Any], question: str, options: Sequence[str], name: str, reader: RowReader
) -> dict[str, Any]:
    """Question, options and pictures of an item; its marks are renumbered in the order of the pictures.

    `pictures` maps the number in a mark to the row's picture.
    """
    try:
        texts, order = order_images([question, *options], list(pictures) if reader.images else None)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    images = tuple(picture for i in order for picture in reader.image(pictures.get(i), name))
    return {"question": texts[0], "options": tuple(texts[1:]), "images": images}


def without_marks(question: str) -> str:
    """A text without `<image>` marks that have no number; line breaks are kept."""
    return BARE.sub(" ", question).strip()
