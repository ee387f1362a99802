r"""Grade a response: try the graders in a fixed order, and give a reason with the verdict.

>>> grade("0.5", r"So it is \boxed{50\%}.")
Verdict(verdict='right', extracted='50\\%', rule='number', reason='the same quantity')

    response -> extract -> nothing there?        unparsed
                        -> options               choice     letter, `(A) text`, text; two that fit: unparsed
                        -> A, (A) or `(A) red`   label      where no options are given
                        -> quantities            number     units, percent, the item's precision
                        -> several parts         set        tuples, lists, sets, intervals
                        -> the same words        text
                        -> expressions           math       math-verify, in a process that can be killed

A gold that says nothing (empty, `None`) is graded and never right. An answer that is of another kind than the
gold, such as prose without a number for a number, is unparsed; every other difference is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from vigos_cli.grading.choice import BARE, DENIED, LEADING, MORE, NAMED, choose, ends_in_options, gold_index
from vigos_cli.grading.extract import extract
from vigos_cli.grading.normal import LONGEST, nothing, plain, words
from vigos_cli.grading.number import Quantity, only_number, quantity, same_quantity, with_unit
from vigos_cli.grading.sets import group, same_group
from vigos_cli.grading.symbolic import latex
from vigos_cli.grading.worker import Pool
from vigos_cli.types import Verdict

KINDS = ("letter", "integer", "float", "list", "text")  # of a gold, where a benchmark states it
LABEL = re.compile(
    r"^(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])\s*[).:](?![A-Za-z]\.))\s*[.:]?\s*(.*)$", re.DOTALL
)
SENTENCE = re.compile(r"(?<=[.!?。])\s+|\n+")
COURTESY = re.compile(
    r"\?\W*$|\b(?:hope (?:this|that|it)|let me know|feel free|happy to help)\b", re.IGNORECASE
)
STATES = re.compile(r"\b(?:is|are|was|were|equals|equal to|becomes)\b:?")
ASIDE = re.compile(r",? (?:which|because|since)\b")
CLAUSE = re.compile(r",? (?:with|that|as|so|and)\b(?! \d)|, (?=[a-z])")
BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*")
REFUSAL = re.compile(
    r"\b(?:sorry|i (?:cannot|can't|don't|do not|am unable)|unable to|no (?:answer|information)|unknown"
    r"|not (?:provided|given|enough|visible|sure|clear|specified)"
    r"|(?:cannot|can't|can not) (?:be )?(?:determine|answer|see|tell))"
)


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """One pair and what the item says about its answer."""

    gold: str
    found: str
    choices: tuple[str, ...]
    precision: int | None
    unit: str | None
    kind: str | None

    def verdict(self, verdict: Literal["right", "wrong", "unparsed"], rule: str, reason: str) -> Verdict:
        """A verdict on this pair."""
        return Verdict(verdict, self.found[:LONGEST], rule, reason)

    def decided(self, right: bool, rule: str, same: str, different: str) -> Verdict:
        """Right or wrong, with its reason."""
        return self.verdict("right" if right else "wrong", rule, same if right else different)


class Grader:
    """Grades pairs; holds the processes in which math-verify runs. Safe to use from several threads.

    `with Grader() as grader:` ends the processes with the block; without it they end with the program.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = pool or Pool()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self.pool.close()

    def grade(
        self,
        gold: str,
        response: str,
        *,
        choices: Sequence[str] = (),
        precision: int | None = None,
        unit: str | None = None,
        kind: str | None = None,
    ) -> Verdict:
        """The verdict on a whole response, or on an answer alone.

        `choices` are the options in their order; `precision` is a number of decimals, and `unit` a unit, that
        the item states for its gold; `kind` is one of KINDS. Raises ValueError for another, and nothing else.
        """
        if kind is not None and kind not in KINDS:
            raise ValueError(f"no kind of answer is called {kind!r}; there are {', '.join(KINDS)}")
        found = extract(response)
        if found is None:
            return Verdict("unparsed", None, "extract", "no answer in the response")
        pair = AnswerPair(gold, found, tuple(str(choice) for choice in choices), precision, unit, kind)
        if pair.choices and (verdict := _choice(pair)):
            return verdict
        if nothing(found):
            return pair.verdict("unparsed", "extract", "the answer says nothing")
        if nothing(gold):
            return pair.verdict("wrong", "empty gold", "the gold says nothing, so no answer is right")
        if max(len(gold), len(found)) > LONGEST:
            return _long(pair)
        return _label(pair) or _number(pair) or _set(pair) or _text(pair) or self._math(pair) or _other(pair)

    def _math(self, pair: AnswerPair) -> Verdict | None:
        """Expressions, by math-verify."""
        gold, found = latex(pair.gold), latex(pair.found)
        if gold is None or found is None or pair.kind == "text" or _equation(gold) != _equation(found):
            return None
        answer = self.pool.equal(gold, found)
        if answer.equal is None:
            return pair.verdict("unparsed", "math", answer.reason)
        return pair.verdict("right" if answer.equal else "wrong", "math", answer.reason)


@lru_cache(maxsize=1)
def default() -> Grader:
    """The grader behind `grade`; its processes start with the first pair that needs them."""
    return Grader()


def grade(
    gold: str,
    response: str,
    *,
    choices: Sequence[str] = (),
    precision: int | None = None,
    unit: str | None = None,
    kind: str | None = None,
) -> Verdict:
    """The verdict on a whole response, or on an answer alone; see `Grader.grade`."""
    return default().grade(gold, response, choices=choices, precision=precision, unit=unit, kind=kind)


def _choice(pair: AnswerPair) -> Verdict | None:
    """By the options; None where the gold is none of them."""
    gold = gold_index(pair.gold, pair.choices, letter=pair.kind == "letter")
    if gold is None:
        return None
    text = pair.found[-LONGEST:]
    chosen = choose(text, pair.choices)
    if chosen.index is None and not ends_in_options(text) and (last := _last_sentence(text)) != text:
        chosen = choose(last, pair.choices)
    if chosen.index is None:
        return pair.verdict("unparsed", "choice", chosen.reason)
    same = pair.choices[chosen.index].strip() == pair.choices[gold].strip()
    return pair.verdict("right" if same else "wrong", "choice", chosen.reason)


def _label(pair: AnswerPair) -> Verdict | None:
    """`A`, `(A)` and `(A) red` without options to compare with."""
    (gold, gold_text), (found, found_text) = _labelled(pair.gold), _labelled(pair.found)
    if gold and not found and not gold_text:
        named = {a or b for a, b in NAMED.findall(pair.found)}
        found = named.pop() if len(named) == 1 and not DENIED.search(pair.found) else ""
    if gold and found:
        same = gold == found and (not gold_text or not found_text or words(gold_text) == words(found_text))
        return pair.decided(same, "label", "the same letter", "letters or their texts differ")
    if (gold_text and words(gold_text) == words(pair.found)) or (
        found_text and words(found_text) == words(pair.gold)
    ):
        return pair.verdict("right", "label", "the text behind the letter")
    return None


def _labelled(text: str) -> tuple[str, str]:
    """The letter and the text behind it; both empty where there is no letter."""
    text = plain(text).strip()
    if match := BARE.match(text):
        return match[1].upper(), ""
    match = LABEL.match(text)
    if match and MORE.match(match[3]):
        return "", ""
    return ((match[1] or match[2]).upper(), match[3].strip()) if match else ("", "")


def _number(pair: AnswerPair) -> Verdict | None:
    """Quantities; a response in prose may hold exactly one."""
    if pair.kind == "text":
        return None
    gold = quantity(pair.gold)
    if gold is None:
        return None
    gold = with_unit(gold, pair.unit)
    found = quantity(pair.found)
    several = tuple(g for g in group(pair.found) if all(quantity(part) for part in g.parts))
    if found is None and not several and latex(pair.found) is None:
        found = _number_in_prose(pair.found)
        if found is None and words(pair.gold) != words(pair.found):
            return pair.verdict("unparsed", "number", "not one number in the answer")
    if found is None:
        return None
    if same_quantity(gold, found, pair.precision):
        return pair.verdict("right", "number", "the same quantity")
    if several and same_group(group(pair.gold), several, pair.precision):
        return pair.verdict("right", "set", "the same parts")
    return None if several and group(pair.gold) else pair.verdict("wrong", "number", "another quantity")


def _number_in_prose(text: str) -> Quantity | None:
    """The number that a text ends with, holds alone, has in bold, or says in its last sentence that it is."""
    last = _last_sentence(text)
    bold = {number for part in BOLD.findall(text) if (number := quantity(part) or only_number(part))}
    if found := quantity(_stated(last) or last) or only_number(text) or (len(bold) == 1 and bold.pop()):
        return found
    if found := only_number(last):
        return found
    *before, stated = STATES.split(ASIDE.split(last, maxsplit=1)[0])
    head = CLAUSE.split(stated, maxsplit=1)[0]
    return only_number(head) if before else quantity(head)


def _set(pair: AnswerPair) -> Verdict | None:
    """Several parts; None where neither side has them, or where an expression may yet be the same."""
    gold, found = group(pair.gold), group(pair.found)
    if not gold or pair.kind == "text":
        return None
    if same_group(gold, found, pair.precision):
        return pair.verdict("right", "set", "the same parts")
    if not found and pair.kind == "list":
        return pair.verdict("unparsed", "set", "no list in the answer")
    both = bool(gold and found) and all(quantity(part) for g in (*gold, *found) for part in g.parts)
    return pair.verdict("wrong", "set", "other parts") if both else None


def _text(pair: AnswerPair) -> Verdict | None:
    """The same words, with or without a sentence around them."""
    gold, found = words(pair.gold), words(pair.found)
    stated = _stated(pair.found)
    if gold and (gold == found or (stated is not None and words(stated) == gold)):
        return pair.verdict("right", "text", "the same text")
    first, second = LEADING.match(gold), LEADING.match(found)
    if first and second and (first[1] == gold or second[1] == found):
        return pair.decided(first[1] == second[1], "text", "the same yes or no", "the opposite")
    return None


def _equation(text: str) -> bool:
    """Whether a formula is an equation, such as `x^2 = 4`; `y = 2x` only names what is behind it."""
    return "=" in text and len(text.partition("=")[0].strip()) > 1


def _other(pair: AnswerPair) -> Verdict:
    """What no grader holds to be the same."""
    if REFUSAL.search(words(pair.found)):
        return pair.verdict("unparsed", "text", "the response declines to answer")
    return pair.verdict("wrong", "text", "not the same text")


def _long(pair: AnswerPair) -> Verdict:
    """A text longer than an answer: only an equal one is right."""
    same = " ".join(pair.gold.casefold().split()) == " ".join(pair.found.casefold().split())
    if not same and len(pair.found) > LONGEST:
        last = _last_sentence(pair.found)
        shorter = AnswerPair(pair.gold, last, (), pair.precision, pair.unit, pair.kind)
        if len(pair.gold) <= LONGEST and (verdict := _number(shorter) or _text(shorter)):
            return shorter.verdict(verdict.verdict, verdict.rule, f"in the last sentence: {verdict.reason}")
        return pair.verdict("unparsed", "text", "too long for an answer")
    return pair.decided(same, "text", "the same text", "not the same text")


def _last_sentence(text: str) -> str:
    """The last one that may hold an answer: a question or a courtesy at the end is passed over."""
    sentences = [
        part.strip() for part in SENTENCE.split(text[-LONGEST:].strip()) if any(map(str.isalnum, part))
    ]
    while len(sentences) > 1 and COURTESY.search(sentences[-1]):
        sentences.pop()
    return sentences[-1] if sentences else ""


def _stated(text: str) -> str | None:
    """What a single sentence says that something is; None where it denies or says nothing of the kind."""
    text = plain(text).strip(" .!")
    if len(text) > 200 or DENIED.search(text) or len(SENTENCE.split(text)) > 1:
        return None
    parts = STATES.split(text)
    return parts[-1].strip() or None if len(parts) > 1 else None
