"""Verdicts on a response, by the shared graders or a benchmark's fixed set of words.

>>> by_word("Yes, there is.", "yes", ("yes", "no")).verdict
'right'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from vigos_cli.grading.extract import extract
from vigos_cli.grading.grade import grade
from vigos_cli.types import Verdict

RANKS = {"right": 0, "wrong": 1, "unparsed": 2}
LETTER = re.compile(r"\(?[A-Z]\)?")
NEGATED = re.compile(r"\b(?:not|isn't|never)\s+(?:\w+\s+)?$")


def answer_of(response: str) -> str | None:
    """The answer in a response; None if there is none."""
    return extract(response)


def no_answer(rule: str = "none") -> Verdict:
    """The verdict on a response without an answer."""
    return Verdict("unparsed", None, rule, "no answer found")


def by_grading(gold: str, response: str, choices: Sequence[str] = (), **known: Any) -> Verdict:
    """The shared graders' verdict; `known` may give the precision, unit and kind of the gold answer."""
    return grade(gold, response, choices=tuple(choices), **known)


def by_letter(gold: str, response: str, choices: Sequence[str]) -> Verdict:
    """The shared graders' verdict if the gold answer is a letter, whatever the options look like."""
    return by_grading(gold, response, choices, kind="letter")


def best(verdicts: Iterable[Verdict]) -> Verdict:
    """The best of the verdicts against several gold answers: a right one, else a wrong one."""
    return min(verdicts, key=lambda verdict: RANKS[verdict.verdict])


def by_word(response: str, gold: str, words: Sequence[str]) -> Verdict:
    """Grade an answer that must name one of a few words: its first word, or the only one that it contains.

    An answer with two of the words, or with one word after a negation, is unparsed. A list of the words at
    the start is skipped, as in `Yes/No: No`.
    """
    rule = "/".join(words)
    answer = answer_of(response)
    if answer is None:
        return no_answer(rule)
    one = rf"\b(?:{'|'.join(map(re.escape, words))})\b"
    lowered = re.sub(rf"^\W*{one}(?:(?:\s*/\s*|,?\s+or\s+){one})+", "", answer.casefold())
    found = list(re.finditer(one, lowered))
    named = {match[0] for match in found}
    first = re.match(r"\W*(\w+)", lowered)
    if first and first[1] in words:
        said = first[1]
    elif len(named) == 1 and not any(_negated(lowered, match.start()) for match in found):
        said = named.pop()
    else:
        reason = "two of the words" if len(named) > 1 else "a negation" if named else "none of the words"
        return Verdict("unparsed", answer, rule, reason)
    return Verdict("right" if said == gold else "wrong", said, rule, f"says {said}")


def _negated(text: str, start: int) -> bool:
    return bool(NEGATED.search(text[max(0, start - 30) : start]))
