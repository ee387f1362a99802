"""Parse the fields of rows, and write options and image marks as text for prompts.

>>> labelled(("red", "blue"))
'(A) red\\n(B) blue'
>>> number_marks(["See <image 2> and <image 4>."], there=[1, 2, 4])
['See [image 2] and [image 3].']
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from vigos_cli.data.cell_text import plain_text
from vigos_cli.data.images import BadRow
from vigos_cli.grading.question_options import letter
from vigos_cli.grading.response_verdicts import LETTER
from vigos_cli.utils.errors import UserError

if TYPE_CHECKING:
    from vigos_cli.evaluation.row_reader import RowReader

MOST_OPTIONS = 26  # their labels are the letters from A to Z
PLACE = re.compile(r"<image[\s_]*(\d{1,3})>")
MARKS = re.compile(r"(?<![ \t])[ \t]*(?:<image>[ \t]*)+")  # without a number, and the blanks around them


def text_field(row: Mapping[str, Any], column: str) -> str:
    """A column as stripped text; "" for a missing value. Raises BadRow if it is not text or a number."""
    return plain_text(row.get(column))


def required_field(row: Mapping[str, Any], column: str) -> str:
    """Like `text_field`, but raises BadRow `missing_COLUMN` for an empty text."""
    value = text_field(row, column)
    if not value:
        raise BadRow(f"missing_{column}")
    return value


def list_field(value: Any, column: str = "options") -> list[str]:
    """Texts from a list, or from a list written as a Python literal. Raises BadRow `COLUMN_unreadable`.

    `ast.literal_eval` parses the text; it accepts only literals and runs no code. An entry that is no text
    and no number is unreadable too: its form in Python, such as `None`, would be shown as an option.
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
    try:
        texts = [plain_text(item) for item in value]
    except BadRow as error:
        raise BadRow(f"{column}_unreadable") from error
    if any(item is None or item != item for item in value):
        raise BadRow(f"{column}_unreadable")
    return texts


def mapping_field(value: Any) -> Mapping[str, Any]:
    """A mapping, also from JSON text; empty for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def texts_field(value: Any, column: str) -> tuple[str, ...]:
    """The texts of a list, or of one text with commas; none for a missing value.

    Raises BadRow `COLUMN_unreadable` for anything else.
    """
    if isinstance(value, str):
        value = value.split(",")
    return tuple(text for text in list_field(value, column) if text)


def shown(text: str) -> str:
    """A text of the data as a part of a message: one line, without control characters and not too long."""
    line = " ".join(text[:2000].split())
    return "".join(sign for sign in line if sign.isprintable())[:300]


def paragraphs(*parts: str) -> str:
    """The non-empty parts, one on each line."""
    return "\n".join(part for part in parts if part)


# ---------------------------------------------------------------- options


def labelled(options: Iterable[str]) -> str:
    """Options as `(A) red`, one on each line."""
    return "\n".join(f"({letter(i)}) {option}" for i, option in enumerate(options))


def letters_in_another_order(options: Sequence[str]) -> bool:
    """Whether an option is a single letter that is the label of another option, as in `(A) E`."""
    labels = [letter(i) for i in range(len(options))]
    texts = [option.strip("() .").upper() for option in options]
    return any(text in labels and text != label for text, label in zip(texts, labels, strict=True))


def check_letter(golds: Iterable[str], options: Sequence[str]) -> None:
    """Raise BadRow `answer_not_an_option` if a gold answer is a letter that no option has or is.

    Such a row cannot be answered: every response would be wrong.
    """
    labels = [letter(i) for i in range(min(len(options), MOST_OPTIONS))]
    for gold in golds if options else ():
        if LETTER.fullmatch(gold) and gold.strip("()") not in labels and gold not in options:
            raise BadRow("answer_not_an_option")


# ---------------------------------------------------------------- pictures


def number_marks(texts: Sequence[str], there: Sequence[int] | None) -> list[str]:
    """The texts with each mark `<image i>` replaced by `[image k]`; no mark is removed.

    `there` has the numbers of the row's pictures. The model sees these pictures in the order of their
    numbers, and k is the place of picture i in that order. So k is i, unless a picture with a smaller number
    is missing. If `there` is None, the pictures are not known, and k is i. Raises UserError for a mark
    without its picture.
    """
    marks = {int(i) for text in texts for i in PLACE.findall(text)}
    order = sorted(range(1, max(marks, default=0) + 1) if there is None else there)
    shown = {i: place for place, i in enumerate(order, 1)}
    if absent := sorted(marks - shown.keys()):
        raise UserError(f"refers to image {absent[0]}, which it does not have")
    return [PLACE.sub(lambda mark: f"[image {shown[int(mark[1])]}]", text) for text in texts]


def question_and_images(
    pictures: Mapping[int, Any], question: str, options: Sequence[str], name: str, reader: RowReader
) -> dict[str, Any]:
    """Question, options and pictures of an item. The pictures are in the order of their numbers.

    `pictures` maps the number in a mark to the row's picture. Marks are numbered as in `number_marks`.
    """
    texts, there = [question, *options], sorted(pictures)
    try:
        texts = number_marks(texts, there)
    except UserError as error:
        if reader.images:
            raise UserError(f"{name}: {error}") from error
        texts = number_marks(texts, None)
    images = tuple(picture for i in there for picture in reader.image(pictures[i], name))
    return {"question": texts[0], "options": tuple(texts[1:]), "images": images}


def without_marks(question: str) -> str:
    """A text in which marks `<image>` without a number are removed or numbered; line breaks are kept.

    The pictures stand before the text. So a mark is removed at the start and at the end of the text, and if
    it has a line of its own. The k-th mark of the text becomes `[image k]` if it is a part of a sentence.
    """
    number = count(1)
    blank = MARKS.sub(lambda run: " " * len(run[0]), question)
    first, last = len(blank) - len(blank.lstrip()), len(blank.rstrip())

    def written(run: re.Match[str]) -> str:
        named = re.sub("<image>", lambda _: f"[image {next(number)}]", run[0])
        around = question[max(0, run.start() - 1) : run.start()] + question[run.end() : run.end() + 1]
        outside = run.start() < first or run.end() > last
        return " " if outside or around == "\n\n" else named

    return MARKS.sub(written, question).strip()
