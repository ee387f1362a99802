r"""Grade a response: find its readings, try the graders in a fixed order, and give a reason with the verdict.

>>> grade("0.5", r"So it is \boxed{50\%}.")
Verdict(verdict='right', extracted='50\\%', rule='number', reason='the same quantity')

    response -> readings -> options      choice     label, text, or both; two that fit: unparsed
                            A, (A) red   label      where no options are given
                            quantities   number     units, percent, the item's precision
                            parts        set        tuples, lists, sets, matrices, intervals
                            same words   text
                            expressions  math       by sympy, in a process that can be killed

The readings are the last box or tag, the last sentence that states an answer, or, without these, the whole
text and its last sentence. A box that is no answer gives way to the sentence. A box and a later sentence that
differ are unparsed, and so is an answer that the rest of the response takes back. After the structured prompt
(its tags close before the box) only the box counts.

A gold that says nothing (empty, `None`) is graded and never right. An answer that is of another kind than the
gold, such as prose without a number for a number, is unparsed; every other difference is wrong.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from vigos_cli.grading.choice import BARE, LABEL, LABELS, LEADING, MORE, NAMED, choose, gold_index
from vigos_cli.grading.expression import shape
from vigos_cli.grading.extract import Statement, find
from vigos_cli.grading.normal import LONGEST, nothing, plain, words
from vigos_cli.grading.number import Quantity, quantity, same_quantity, too_large, with_unit
from vigos_cli.grading.prose import (
    CONDITION,
    DENIED,
    SENTENCE,
    claim,
    claims,
    declines,
    last_sentence,
    withdrawn,
)
from vigos_cli.grading.sets import group, same_group
from vigos_cli.grading.symbolic import latex
from vigos_cli.grading.worker import SECONDS, Pool
from vigos_cli.types import Verdict

KINDS = ("letter", "integer", "float", "list", "text")  # of a gold, where a benchmark states it
BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*")
CLAUSE = re.compile(r",? (?:with|that|as|while|where|when|and the)\b|, (?=[a-z])")
ITEMS = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*•])\s", re.MULTILINE)
EXCLAIMED = re.compile(r"\d!\W*$")


class Undecided(Exception):
    """Two expressions could not be compared; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is known about the right answer of an item."""

    gold: str
    choices: tuple[str, ...]
    precision: int | None
    unit: str | None
    kind: str | None

    @property
    def letter(self) -> bool:
        """Whether the gold is a label, so that only a label decides between equal options."""
        texts = [choice.strip() for choice in self.choices]
        return self.kind == "letter" or (
            BARE.match(self.gold.strip()) is not None and self.gold.strip() not in texts
        )

    @property
    def gold_words(self) -> str:
        """The gold, or the text of the right option, as it is compared with words."""
        index = gold_index(self.gold, self.choices, letter=self.letter) if self.choices else None
        return words(self.gold if index is None else self.choices[index])


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """An item and an answer to it."""

    item: Item
    found: str

    @property
    def gold(self) -> str:
        """The right answer."""
        return self.item.gold

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
        item = Item(gold, tuple(str(choice) for choice in choices), precision, unit, kind)
        found = find(response)
        if found.framed:
            framed = self._statement(item, found.framed)
            if not found.stated:
                return framed
            stated = self._statement(item, found.stated)
            if framed.verdict == "unparsed":
                return stated if stated.verdict != "unparsed" else framed
            if stated.verdict in ("unparsed", framed.verdict):
                return framed
            return Verdict("unparsed", framed.extracted, framed.rule, "the box and a later sentence differ")
        if found.stated:
            return self._statement(item, found.stated)
        if found.broken or not found.whole:
            return Verdict("unparsed", None, "extract", "no answer in the response")
        return self._whole(item, found.whole)

    def _statement(self, item: Item, statement: Statement) -> Verdict:
        """The verdict on a stated answer, if the response does not take it back."""
        verdict = self._answer(item, statement.text)
        reason = withdrawn(statement.after)
        if not reason and not statement.box:
            sentence = item.gold_words not in words(statement.text) and declines(statement.text)
            reason = sentence or (
                EXCLAIMED.search(statement.text) and "ends in a factorial or an exclamation"
            )
        if verdict.verdict == "unparsed" or not reason:
            return verdict
        return Verdict("unparsed", verdict.extracted, verdict.rule, f"the response {reason}")

    def _whole(self, item: Item, text: str) -> Verdict:
        """The verdict on a response that states no answer: it is one, or its last sentence claims one."""
        pair = AnswerPair(item, text)
        if (reason := declines(text)) and item.gold_words != words(text):
            return pair.verdict("unparsed", "text", reason)
        return self._answer(item, text)

    def _answer(self, item: Item, found: str) -> Verdict:
        """The verdict on one answer."""
        pair = AnswerPair(item, found)
        if item.choices and (verdict := _choice(pair)):
            return verdict
        if nothing(found):
            return pair.verdict("unparsed", "extract", "the answer says nothing")
        if nothing(item.gold):
            return pair.verdict("wrong", "empty gold", "the gold says nothing, so no answer is right")
        if max(len(item.gold), len(found)) > LONGEST:
            if " ".join(item.gold.casefold().split()) == " ".join(found.casefold().split()):
                return pair.verdict("right", "text", "the same text")
            if len(found) <= LONGEST:
                return pair.verdict("wrong", "text", "not the same text")
            return self._answer(item, last_sentence(found)[-LONGEST:])
        try:
            return (
                _label(pair)
                or _number(pair)
                or self._set(pair)
                or _text(pair)
                or self._math(pair)
                or pair.verdict("wrong", "text", "not the same text")
            )
        except Undecided as reason:
            return pair.verdict("unparsed", "math", str(reason))

    def _set(self, pair: AnswerPair) -> Verdict | None:
        """Several parts; None where one side does not have them."""
        gold, found = group(pair.gold), group(pair.found)
        if not gold or pair.item.kind == "text":
            return None
        if not found:
            listed = pair.item.kind == "list"
            return pair.verdict("unparsed", "set", "no list in the answer") if listed else None
        end = time.process_time() + SECONDS

        def same(a: str, b: str) -> bool:
            return self._same_expression(a, b, end - time.process_time())

        same_parts = same_group(gold, found, pair.item.precision, same)
        return pair.decided(same_parts, "set", "the same parts", "other parts")

    def _math(self, pair: AnswerPair) -> Verdict | None:
        """Expressions and equations; None where one side is none."""
        if latex(pair.gold) is None or latex(pair.found) is None or pair.item.kind == "text":
            return None
        same = self._same_expression(pair.gold, pair.found, SECONDS)
        return pair.decided(same, "math", "the expressions are equal", "the expressions are different")

    def _same_expression(self, a: str, b: str, seconds: float) -> bool:
        """Whether two expressions or equations are the same. Raises Undecided."""
        if too_large(a) or too_large(b):
            if shape(plain(a)) == shape(plain(b)):
                return True
            raise Undecided("too large to be compared with certainty")
        first, second = latex(a), latex(b)
        if first is None or second is None:
            return False
        (name, first_value), (other, second_value) = _named(first), _named(second)
        if name and other and name != other and "=" not in first_value + second_value:
            return self._equal(first, second, seconds)  # equations that are solved for different variables
        if bool("=" in first_value) != bool("=" in second_value):
            if not (name or other):
                return False
            return self._equal(first, second, seconds) if "=" in first and "=" in second else False
        return self._equal(first_value, second_value, seconds)

    def _equal(self, a: str, b: str, seconds: float) -> bool:
        if seconds <= 0:
            raise Undecided("comparing the parts took too long")
        answer = self.pool.equal(a, b, seconds)
        if answer.equal is None:
            raise Undecided(answer.reason)
        return answer.equal


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


def _named(formula: str) -> tuple[str, str]:
    """The name in front of `y = 2x`, and what is behind it; an empty name and all of it otherwise."""
    name, equals, value = formula.partition("=")
    name = name.strip()
    return (name, value.strip()) if equals and len(name) == 1 and name.isalpha() else ("", formula)


def _choice(pair: AnswerPair) -> Verdict | None:
    """By the options; None where the gold is none of them."""
    item = pair.item
    gold = gold_index(item.gold, item.choices, letter=item.letter)
    if gold is None:
        return None
    chosen = choose(pair.found[-LONGEST:], item.choices, letter=item.letter)
    if chosen.index is None:
        return pair.verdict("unparsed", "choice", chosen.reason)
    same = chosen.index == gold
    if not item.letter:
        same = item.choices[chosen.index].strip() == item.choices[gold].strip()
    return pair.decided(same, "choice", chosen.reason, chosen.reason)


def _label(pair: AnswerPair) -> Verdict | None:
    """`A`, `(A)` and `(A) red` without options to compare with."""
    (gold, gold_text), (found, found_text) = _labelled(pair.gold), _labelled(pair.found)
    if gold and not found and not gold_text:
        sentence = last_sentence(pair.found)
        named = {a or b for a, b in NAMED.findall(sentence)}
        denied = DENIED.search(sentence) or CONDITION.search(sentence)
        found = _labelled(claim(sentence) or "")[0] or (named.pop() if len(named) == 1 and not denied else "")
        found = found.upper()
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
    if match is None or MORE.match(match[3]) or LABELS.match(text):
        return "", ""
    return (match[1] or match[2]).upper(), match[3].strip()


def _number(pair: AnswerPair) -> Verdict | None:
    """Quantities; a response in prose may hold exactly one."""
    item = pair.item
    gold = None if item.kind == "text" else quantity(pair.gold)
    if gold is None:
        return None
    gold = with_unit(gold, item.unit)
    found = quantity(pair.found)
    several = tuple(g for g in group(pair.found) if all(quantity(part) for part in g.parts))
    if found is None and not several and latex(pair.found) is None:
        found = _number_in_prose(pair.found)
        if found is None and words(pair.gold) != words(pair.found):
            return pair.verdict("unparsed", "number", "not one number in the answer")
    if found is None:
        return None
    if same_quantity(gold, found, item.precision):
        return pair.verdict("right", "number", "the same quantity")
    if several and same_group(group(pair.gold), several, item.precision):
        return pair.verdict("right", "set", "the same parts")
    return None if several and group(pair.gold) else pair.verdict("wrong", "number", "another quantity")


def _number_in_prose(text: str) -> Quantity | None:
    """The number that the last sentence of a text is or claims, or that stands in bold alone."""
    last = last_sentence(text)
    listed = ITEMS.match(text.rstrip().split("\n")[-1]) and len(ITEMS.findall(text)) > 1
    if listed or CONDITION.search(last):
        return None  # the last of several items is no answer for standing last
    for claimed in (last, *reversed(claims(last))):
        if found := quantity(claimed) or quantity(CLAUSE.split(claimed, maxsplit=1)[0]):
            return found
    bold = {number for part in BOLD.findall(text) if (number := quantity(part))}
    return bold.pop() if len(bold) == 1 else None


def _text(pair: AnswerPair) -> Verdict | None:
    """The same words, with or without a sentence around them."""
    gold, found = words(pair.gold), words(pair.found)
    single = len(SENTENCE.split(pair.found.strip())) == 1 and claim(pair.found)
    if gold and (gold == found or (single and words(single) == gold)):
        return pair.verdict("right", "text", "the same text")
    first, second = LEADING.match(gold), LEADING.match(found)
    if first and second and (first[1] == gold or second[1] == found):
        return pair.decided(first[1] == second[1], "text", "the same yes or no", "the opposite")
    return None
