"""Where the pictures of a question stand: at its marks `<image>`, or before its text.

>>> read_marks("Is <image> larger than <image>?", pictures=2)
('Is <image> larger than <image>?', (3, 23))
>>> read_marks("<image>\\nHow many?", pictures=1)         # pictures before all text need no positions
('How many?', ())
>>> read_marks("What does the tag <image> do?", pictures=0)       # ordinary text
('What does the tag <image> do?', ())
>>> split_at_marks("Is <image> larger than <image>?", (3, 23))
['Is ', ' larger than ', '?']

A position is the index of a mark's first character. Only a mark at a position stands for a picture; the same
characters anywhere else are ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vigos_cli.data.images import BadRow

MARK = "<image>"
LEADING = re.compile(rf"(?:\s*{MARK})+\s*")


def read_marks(question: str, pictures: int) -> tuple[str, tuple[int, ...]]:
    """A question with this many pictures, and the positions of its marks.

    There are no positions if the pictures stand before the text: without marks, or if all marks stand at the
    start, where they are removed. Without pictures a mark is ordinary text. Raises BadRow `image_marks` for
    any other number of marks than pictures.
    """
    places = tuple(match.start() for match in re.finditer(MARK, question))
    if not pictures or not places:
        return question, ()
    if len(places) != pictures:
        raise BadRow("image_marks")
    return without_leading(question, places)


def without_leading(question: str, places: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The question without its marks, and no positions, if all marks stand at its start."""
    leading = LEADING.match(question)
    if leading and places[-1] < leading.end():
        return question[places[-1] + len(MARK) :].lstrip(), ()
    return question, places


def split_at_marks(question: str, places: Sequence[int]) -> list[str]:
    """The texts before, between and after the marks at these positions; one more text than positions."""
    starts = [0, *(place + len(MARK) for place in places)]
    return [question[a:b] for a, b in zip(starts, [*places, len(question)], strict=True)]
