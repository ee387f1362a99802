r"""Find the answer in a response.

>>> extract("<think> 2 + 2 </think> \\boxed{4}")
'4'
>>> extract("Four boxes, so:\nAnswer: **4**")
'**4**'
>>> extract("The answer is 4. I hope this helps!")
'4'
>>> extract("4 boxes")
'4 boxes'

In this order: the answer of a parsed structure; the last balanced `\boxed{}`; the last `<answer>`; the last
line that begins with `Answer:`; what follows the last "the answer is" (or "the correct option is"), to the
end of its sentence; the whole text. A structure that was begun and not finished (a thought or a box that
never closes) has no answer.
"""

from __future__ import annotations

import re

from vigos_cli.method.segments import BOX, DESCRIPTION, DESCRIPTION_END, THINK, THINK_END, last_box

ANSWER, ANSWER_END = "<answer>", "</answer>"
LINE = re.compile(
    r"^[ \t*_#>\-]{0,12}(?:(?:so|thus|hence|therefore)[, ]+)?(?:the +|my +)?(?:final +|correct +)?"
    r"(?:answer|答案)(?: +is)?[\s*_]*[:：][\s*_]*",
    re.IGNORECASE | re.MULTILINE,
)
SENTENCE = re.compile(
    r"\b(?:answer(?: to (?:the|this|your) (?:question|problem))?|(?:correct|right|best) (?:option|choice)"
    r"(?: letter)?)[*_]* +(?:is|would be|should be|must be)"
    r"(?: +(?:therefore|thus|definitely|simply|clearly))?[\s:]+|答案(?:是|为|為)\s*",
    re.IGNORECASE,
)
STOP = re.compile(r"[.!?](?=[*_\"')\]]*(?:\s|$))|。|\n")
TAIL = 20_000  # an "answer is" further from the end than this is not looked for


def extract(text: str, *, answer: str = "") -> str | None:
    """The answer in a response, stripped but otherwise as written; None where there is none.

    `answer` is that of an already parsed structured response, and wins when it is not blank. Never raises.
    """
    if answer.strip():
        return answer.strip()
    inside = framed(text)
    if BOX in text or ANSWER in text:
        return inside or None
    rest = text if inside is None else inside
    return _phrased(rest[-TAIL:]) or _filled(rest)


def framed(text: str) -> str | None:
    """What stands where a structured response has its answer: in a box, a tag, or behind the thought.

    Empty where the structure was begun and not finished, None where there is no structure.
    """
    if BOX in text:
        return (last_box(text) or "").strip()
    if ANSWER in text:
        return text.rsplit(ANSWER, 1)[1].split(ANSWER_END, 1)[0].strip()
    rest = text
    for opening, closing in ((THINK, THINK_END), (DESCRIPTION, DESCRIPTION_END)):
        if closing in rest:
            rest = rest.rsplit(closing, 1)[1]
        elif opening in rest:
            return ""
    return None if rest == text else rest.strip()


def _phrased(text: str) -> str | None:
    """What follows the last `Answer:` or "the answer is"; None where nothing does."""
    for match in reversed(list(LINE.finditer(text))):
        if found := _filled(text[match.end() :].lstrip().split("\n", 1)[0]):
            return found
    matches = list(SENTENCE.finditer(text))
    if not matches:
        return None
    rest = text[matches[-1].end() :]
    stop = STOP.search(rest)
    return _filled(rest[: stop.start()] if stop else rest)


def _filled(text: str) -> str | None:
    return text.strip() or None
