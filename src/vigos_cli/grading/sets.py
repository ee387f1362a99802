r"""Answers of several parts: tuples, lists, sets, matrices, intervals, inequalities, and "5 or -5".

>>> same_group(group("2014, 2016"), group("[2014, 2016]"))
True
>>> same_group(group("(1, 2)"), group("(2, 1)"))
False
>>> same_group(group("x <= 4"), group(r"(-\infty, 4]"))
True

A matrix is a list of its rows. Parts are compared as words and quantities, and then by `same_expression`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from vigos_cli.grading.normal import plain, words
from vigos_cli.grading.number import quantity, same_quantity

OPENING, CLOSING = "([{⦃", ")]}⦄"
ONE_KIND = str.maketrans("⦃⦄", "{}")
MANY = 64  # number of parts; a text with more is prose
MEMBER = re.compile(r"^[a-zA-Z]\s*∈\s*")
INFINITY = re.compile(r"\b(?:infinity|inf|oo)\b", re.IGNORECASE)
UNION = re.compile(r"\s*∪\s*|\s+or\s+")
BUILDER = re.compile(r"^[{⦃]\s*[a-zA-Z]\s*[|:]\s*(.*)[}⦄]$")  # `{x | x < 4}`
COMPARISON = re.compile(r"([<>≤≥])")
SCALED = re.compile(r"^([^\[\](),=<>]{1,40}?) ?\*? ?(\[\[.{1,400}\]\])$")  # a number times a matrix
ENTRY = re.compile(r"[^\[\],]+(?=[,\]])")
NAMED = re.compile(r"^\s*[a-zA-Z]\s*=\s*")
BOTH = re.compile(r"^([^±]*)±([^±]+)$")
JOINED = re.compile(r"\s*,?\s+(?:and|or)\s+|^(?:and|or)\s+", re.IGNORECASE)
COMMAS = (r"[,;]", r"[,;](?!\d{3}(?!\d))")  # the second does not split `1,000`


@dataclass(frozen=True, slots=True)
class Group:
    """Parts in the brackets they were written in; both are blank for a bare list, `∪` for a union."""

    opened: str
    closed: str
    parts: tuple[str, ...]
    ordered: bool = True


@lru_cache(maxsize=1024)
def group(text: str) -> tuple[Group, ...]:
    """The ways to read a text as parts, none for a text of one part. Never raises.

    There are two if a comma may be a thousands separator: `[1,000, 2]`.
    """
    text = INFINITY.sub("∞", MEMBER.sub("", plain(text).rstrip(" .;")))
    text = BUILDER.sub(r"\1", text).replace("<=", "≤").replace(">=", "≥")
    if interval := _inequality(text):
        return (interval,)
    united = tuple(UNION.split(text, MANY))
    if "∪" in text or (len(united) > 1 and all(map(_inequality, united))):
        return (Group("∪", "∪", united, ordered=False),) if len(united) <= MANY else ()
    if match := BOTH.match(text):
        head = NAMED.sub("", match[1]).strip()
        return (Group("", "", (f"{head}+{match[2]}", f"{head}-{match[2]}"), ordered=False),)
    if match := SCALED.match(text):
        factor, matrix = match.groups()
        text = ENTRY.sub(lambda entry: f"({factor})*({entry[0].strip()})", matrix)
    opened = closed = ""
    if text and text[0] in OPENING and text[-1] in CLOSING and min(_depths(text)[:-1]) > 0:
        opened, closed, text = text[0], text[-1], text[1:-1]
    readings = []
    for comma in COMMAS:
        parts = _split(text, comma)
        loose = opened in ("{", "⦃")
        if not opened:
            loose = len(parts) == 1 or NAMED.match(text) is not None
            parts = (*parts[:-1], *filter(None, JOINED.split(parts[-1], MANY)))
        if (len(parts) > 1 or opened in ("⦃", "[")) and len(parts) <= MANY:
            readings.append(Group(opened, closed, parts, not loose))
    return tuple(dict.fromkeys(readings))


def same_group(
    a: tuple[Group, ...],
    b: tuple[Group, ...],
    precision: int | None = None,
    same_expression: Callable[[str, str], bool] = lambda _a, _b: False,
) -> bool:
    """Whether two texts of several parts say the same, in any of their readings."""

    def same_part(a: str, b: str, depth: int) -> bool:
        if a == b or words(a) == words(b) != "":
            return True
        first, second = quantity(a), quantity(b)
        if first and second:
            return same_quantity(first, second, precision)
        inner = [(x, y) for x in group(a) for y in group(b)]
        if inner:
            return depth < 3 and any(same(x, y, depth + 1) for x, y in inner)
        return same_expression(a, b)

    def same(a: Group, b: Group, depth: int) -> bool:
        if len(a.parts) != len(b.parts) or not _brackets(a, b):
            return False
        if a.ordered and b.ordered:
            return all(same_part(x, y, depth) for x, y in zip(a.parts, b.parts, strict=True))
        left = list(b.parts)
        for part in a.parts:
            found = next((i for i, other in enumerate(left) if same_part(part, other, depth)), None)
            if found is None:
                return False
            del left[found]
        return True

    return any(same(x, y, 0) for x in a for y in b)


def _brackets(a: Group, b: Group) -> bool:
    """Whether two kinds of brackets can hold the same. A half-open interval is no list."""
    kinds = {(group.opened + group.closed).translate(ONE_KIND) for group in (a, b)}
    if len(kinds) == 1:
        return True
    if "" in kinds:
        return kinds <= {"", "()", "[]", "{}"} and not any("∞" in part for part in (*a.parts, *b.parts))
    return kinds == {"()", "[]"} and len(a.parts) > 2  # of two parts they are different intervals


def _depths(text: str) -> list[int]:
    """How many brackets are open behind each character."""
    return list(accumulate((char in OPENING) - (char in CLOSING) for char in text))


def _split(text: str, comma: str) -> tuple[str, ...]:
    """The parts between the commas that stand in no bracket."""
    depths, parts, start = _depths(text), [], 0
    for match in re.finditer(comma, text):
        if depths[match.start()] == 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return (*parts, text[start:].strip())


def _inequality(text: str) -> Group | None:
    """`x ≤ 4` as the interval that it means, and `-2 < x ≤ 1`."""
    parts = [part.strip() for part in COMPARISON.split(text)]
    if len(parts) not in (3, 5) or not all(parts) or "=" in text:
        return None
    if len({sign in "<≤" for sign in parts[1::2]}) > 1:
        return None
    if parts[1] in ">≥":
        parts.reverse()
    if len(parts) == 3:
        parts = ["-∞", "<", *parts] if _is_variable(parts[0]) else [*parts, "<", "∞"]
    low, left, middle, right, high = parts
    if not _is_variable(middle):
        return None
    return Group("[" if left in "≤≥" else "(", "]" if right in "≤≥" else ")", (low, high))


def _is_variable(text: str) -> bool:
    return re.fullmatch("[a-zA-Z]", text) is not None
