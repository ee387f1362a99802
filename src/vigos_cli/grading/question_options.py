"""The options of a question: their labels, and those that stand in its text.

>>> inlined("Which colour?\\nA. red\\nB. blue")
('red', 'blue')
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vigos_cli.grading.response_verdicts import LETTER

LABEL = re.compile(  # `A. x`, `A: x`, `(A) x`, or at the start of a line `A x`
    r"(?:^|(?<=[\s,;]))\(?(?P<marked>[A-Z])[.:)]\s*|^(?P<bare>[A-Z])[ \t]+(?=\S)", re.MULTILINE
)


def letter(index: int) -> str:
    """The label of the option at `index`."""
    return chr(ord("A") + index)


def inlined(question: str) -> tuple[str, ...]:
    """The options listed in the text of a question as `A. x`, `A: x` or `(A) x`; empty if fewer than two.

    At the start of a line the sign after the letter may be missing: `B Only cars`. If it is missing after A,
    B must be at the start of a line too, because a sentence can start with the word A. The labels start with
    A. An option ends where the next label starts, the last one at the end of its line.
    """
    found: list[re.Match[str]] = []
    for match in LABEL.finditer(question):
        label = match["marked"] or match["bare"]
        starts_line = question[match.start() - 1 : match.start()] in ("", "\n")
        if label == letter(len(found)) and (len(found) != 1 or found[0]["marked"] or starts_line):
            found.append(match)
        elif label == "A":  # the earlier A was a word of the sentence; the options start here
            found = [match]
    if len(found) < 2:
        return ()
    ends = [match.start() for match in found[1:]]
    last = question.find("\n", found[-1].end())
    ends.append(len(question) if last < 0 else last)
    return tuple(question[match.end() : end].strip(" \n\t,;") for match, end in zip(found, ends, strict=True))


def options_for(gold: str, question: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The options for grading: the item's own, or those in the question if the gold answer is a letter."""
    if options or not LETTER.fullmatch(gold):
        return tuple(options)
    return inlined(question)
