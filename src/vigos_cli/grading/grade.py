r"""Grade a response: find its readings, try the graders in a fixed order, and give a reason with the verdict.

>>> grade("0.5", r"So it is \boxed{50\%}.")
Verdict(verdict='right', extracted='50\\%', rule='number', reason='the same quantity')

    response -> readings -> options      choice     label, text, or both; unparsed if two fit
                            A, (A) red   label      if no options are given
                            quantities   number     units, percent, the item's precision
                            parts        set        tuples, lists, sets, matrices, intervals
                            same words   text
                            expressions  math       by sympy, in a process that can be killed

The readings are the last box or tag, and the last sentence that states an answer. Without these, the whole
text is read, and then its last sentence. If the box is no answer, the sentence counts. If a box and a later
sentence differ, or if the rest of the response takes the answer back, the answer is unparsed. After the
structured prompt (its tags close before the box) only the box counts.

If the gold says nothing (empty, `None`), no answer is right. An answer of another kind than the gold, such as
prose without a number for a number, is unparsed. Every other difference is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vigos_cli.grading.choice import LEADING, choose, labelled
from vigos_cli.grading.expression import shape
from vigos_cli.grading.extract import Statement, find
from vigos_cli.grading.normal import LONGEST, nothing, plain, words
from vigos_cli.grading.number import Quantity, quantity, same_quantity, too_large, with_unit
from vigos_cli.grading.prose import CONDITION, SENTENCE, claim, claims, declines, last_sentence, withdrawn
from vigos_cli.grading.sets import group, same_group
from vigos_cli.grading.symbolic import latex
from vigos_cli.grading.text_equality import same_text
from vigos_cli.grading.worker import SECONDS, Pool
from vigos_cli.types import Verdict

KINDS = ("letter", "integer", "float", "list", "text")  # of a gold, if a benchmark states it
BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*")
HEDGED = re.compile(r"\b(?:maybe|perhaps|or (?:yes|no|true|false)|it depends|not sure)\b")
CLAUSE = re.compile(r",? (?:with|that|as|while|where|when|and the)\b|, (?=[a-z])")  # begins behind a number
ITEMS = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*•])\s", re.MULTILINE)
EXCLAIMED = re.compile(r"\d!\W*$")
SHARED = Pool()  # starts no process before the first pair

Decision = tuple[Literal["right", "wrong", "unparsed"], str, str]  # verdict, rule, reason


class Undecided(Exception):
    """Two expressions could not be compared; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is known about the right answer of an item, and the processes that compare expressions."""

    gold: str
    choices: tuple[str, ...]
    precision: int | None
    unit: str | None
    kind: str | None
    pool: Pool

    @property
    def letter(self) -> bool:
        """Whether the gold is a label, so that only a label decides between equal options."""
        texts = [choice.strip() for choice in self.choices]
        label, text = labelled(self.gold)
        return self.kind == "letter" or (label != "" and not text and self.gold.strip() not in texts)

    @property
    def index(self) -> int | None:
        """The option that is right; None if the gold is none of them."""
        return choose(self.gold, self.choices, letter=self.letter).index

    @property
    def gold_words(self) -> str:
        """The words of the gold, or of the text of the right option."""
        index = self.index
        return words(self.gold if index is None else self.choices[index])


def grade(
    gold: str,
    response: str,
    *,
    choices: Sequence[str] = (),
    precision: int | None = None,
    unit: str | None = None,
    kind: str | None = None,
    pool: Pool = SHARED,
) -> Verdict:
    """The verdict on a whole response, or on an answer alone. Safe to use from several threads.

    `choices` are the options in their order. `precision` (a number of decimals) and `unit` are what the item
    states for its gold. `kind` is one of KINDS. The processes of `pool` compare expressions. They end with
    the program. Raises ValueError for another kind, and nothing else.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"no kind of answer is called {kind!r}; there are {', '.join(KINDS)}")
    item = Item(gold, tuple(str(choice) for choice in choices), precision, unit, kind, pool)
    found = find(response)
    if not found.whole:
        return Verdict("unparsed", None, "extract", "no answer in the response")
    framed, stated = (part and _statement(item, part) for part in (found.framed, found.stated))
    if framed and stated and "unparsed" not in (framed.verdict, stated.verdict):
        if framed.verdict != stated.verdict:
            return Verdict("unparsed", framed.extracted, framed.rule, "the box and a later sentence differ")
        return framed
    if framed and stated:
        return framed if stated.verdict == "unparsed" else stated
    if only := framed or stated:
        return only
    if (reason := declines(found.whole)) and item.gold_words != words(found.whole):
        return Verdict("unparsed", found.whole[:LONGEST], "text", reason)
    return _verdict(item, found.whole)


def _statement(item: Item, statement: Statement) -> Verdict:
    """The verdict on a stated answer, if the response does not take it back."""
    verdict = _verdict(item, statement.text)
    reason = withdrawn(statement.after)
    if not reason and not statement.box:
        reason = None if item.gold_words in words(statement.text) else declines(statement.text)
        if EXCLAIMED.search(statement.text):
            reason = "the response ends in a factorial or an exclamation"
    return Verdict("unparsed", verdict.extracted, verdict.rule, reason) if reason else verdict


def _verdict(item: Item, found: str) -> Verdict:
    """The verdict on one answer."""
    decision = _choice(item, found) if item.choices else None
    if not decision and len(found) > LONGEST:
        if same_text(found, item.gold):
            decision = "right", "text", "the same text"
        else:
            found = last_sentence(found)[-LONGEST:]
    verdict, rule, reason = decision or _answer(item, found)
    return Verdict(verdict, found[:LONGEST], rule, reason)


def _answer(item: Item, found: str) -> Decision:
    """The decision of the first grader that can read both sides."""
    if nothing(found):
        return "unparsed", "extract", "the answer says nothing"
    if nothing(item.gold):
        return "wrong", "empty gold", "the gold says nothing, so no answer is right"
    try:
        for grader in (_label, _number, _set, _text, _math):
            if decision := grader(item, found):
                return decision
    except Undecided as reason:
        return "unparsed", "math", str(reason)
    return "wrong", "text", "not the same text"


def _decided(right: bool, rule: str, same: str, different: str) -> Decision:
    return ("right", rule, same) if right else ("wrong", rule, different)


def _choice(item: Item, found: str) -> Decision | None:
    """By the options; None if the gold is none of them."""
    gold = item.index
    if gold is None:
        return None
    chosen = choose(found[-LONGEST:], item.choices, letter=item.letter)
    if chosen.index is None:
        return "unparsed", "choice", chosen.reason
    return _decided(chosen.index == gold, "choice", chosen.reason, chosen.reason)


def _label(item: Item, found: str) -> Decision | None:
    """`A`, `(A)` and `(A) red` without options to compare with."""
    label, text = labelled(item.gold)
    if not label:
        label, text = labelled(found)
        return (
            ("right", "label", "the text behind the letter")
            if text and words(text) == words(item.gold)
            else None
        )
    options, index = [""] * 26, ord(label) - ord("A")
    options[index] = text
    chosen = choose(found, options, letter=True).index
    if chosen is None:
        return None
    return _decided(chosen == index, "label", "the same letter", "letters or their texts differ")


def _number(item: Item, found: str) -> Decision | None:
    """Quantities; a response in prose may hold exactly one."""
    gold = None if item.kind == "text" else quantity(item.gold)
    if gold is None:
        return None
    read = quantity(found)
    several = tuple(g for g in group(found) if all(quantity(part) for part in g.parts))
    if read is None and not several and latex(found) is None:
        read = _number_in_prose(found)
        if read is None and words(item.gold) != words(found):
            return "unparsed", "number", "not one number in the answer"
    if read is None:
        return None
    if same_quantity(with_unit(gold, item.unit), read, item.precision):
        return "right", "number", "the same quantity"
    if several and same_group(group(item.gold), several, item.precision):
        return "right", "set", "the same parts"
    return None if several and group(item.gold) else ("wrong", "number", "another quantity")


def _number_in_prose(text: str) -> Quantity | None:
    """The number that the last sentence of a text is or claims, or the only one in bold."""
    last = last_sentence(text)
    listed = ITEMS.match(text.rstrip().split("\n")[-1]) and len(ITEMS.findall(text)) > 1
    if listed or CONDITION.search(last):
        return None  # the last of several items is not the answer
    for claimed in (last, *reversed(claims(last))):
        if found := quantity(CLAUSE.split(claimed, maxsplit=1)[0]):
            return found
    bold = {number for part in BOLD.findall(text) if (number := quantity(part))}
    return bold.pop() if len(bold) == 1 else None


def _set(item: Item, found: str) -> Decision | None:
    """Several parts; None if one side does not have them."""
    gold, parts = group(item.gold), group(found)
    if not gold or item.kind == "text":
        return None
    if not parts:
        return ("unparsed", "set", "no list in the answer") if item.kind == "list" else None
    left = SECONDS  # for all parts together

    def same(a: str, b: str) -> bool:
        nonlocal left
        equal, left = _same_expression(item.pool, a, b, left)
        return equal

    return _decided(same_group(gold, parts, item.precision, same), "set", "the same parts", "other parts")


def _text(item: Item, found: str) -> Decision | None:
    """The same words, with or without a sentence around them."""
    gold, said = words(item.gold), words(found)
    claimed = len(SENTENCE.split(found.strip())) == 1 and claim(found)
    if gold and gold in (said, words(claimed or "")):
        return "right", "text", "the same text"
    first, second = LEADING.match(gold), LEADING.match(said)
    if first and second and HEDGED.search(said):
        return "unparsed", "text", "neither yes nor no for certain"
    if first and second and (first[1] == gold or second[1] == said):
        return _decided(first[1] == second[1], "text", "the same yes or no", "the opposite")
    return None


def _math(item: Item, found: str) -> Decision | None:
    """Expressions and equations; None if one side is none."""
    if latex(item.gold) is None or latex(found) is None or item.kind == "text":
        return None
    same, _ = _same_expression(item.pool, item.gold, found, SECONDS)
    return _decided(same, "math", "the expressions are equal", "the expressions are different")


def _same_expression(pool: Pool, a: str, b: str, seconds: float) -> tuple[bool, float]:
    """Whether two expressions or equations are the same, and the seconds that are left. Raises Undecided."""
    if too_large(a) or too_large(b):
        if shape(plain(a)) == shape(plain(b)):
            return True, seconds
        raise Undecided("too large to be compared with certainty")
    first, second = latex(a), latex(b)
    if first is None or second is None:
        return False, seconds
    (name, first_value), (other, second_value) = _named(first), _named(second)
    solved = name and other and name != other and "=" not in first_value + second_value
    if not solved and ("=" in first_value) == ("=" in second_value):
        first, second = first_value, second_value
    elif "=" not in first or "=" not in second:
        return False, seconds
    if seconds <= 0:
        raise Undecided("comparing the parts took too long")
    answer = pool.equal(first, second, seconds)
    if answer.equal is None:
        raise Undecided(answer.reason)
    return answer.equal, answer.left


def _named(formula: str) -> tuple[str, str]:
    """The name in front of `y = 2x`, and what is behind it; otherwise an empty name and all of it."""
    match = re.match(r"\s*([^\W\d_])\s*=(.*)", formula, re.DOTALL)
    return (match[1], match[2].strip()) if match else ("", formula)
