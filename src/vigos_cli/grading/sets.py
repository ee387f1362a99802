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

from vigos_cli.grading.normal import plain, words
from vigos_cli.grading.number import quantity, same_quantity

OPENING, CLOSING = "([{⦃", ")]}⦄"
MANY = 64  # parts; more are prose
MEMBER = re.compile(r"^[a-zA-Z]\s*∈\s*")
BUILDER = re.compile(r"^[{⦃]\s*[a-zA-Z]\s*[|:]\s*(.*)[}⦄]$")
BOUND = r"([^<>≤≥=]{1,80})"
LESS, MORE = r"(<=|≤|<)", r"(>=|≥|>)"
ONE = re.compile(rf"^{BOUND}(<=|≤|<|>=|≥|>){BOUND}$")
TWO = re.compile(rf"^{BOUND}(?:{LESS}{BOUND}{LESS}|{MORE}{BOUND}{MORE}){BOUND}$")
SCALED = re.compile(r"^([^\[\](),=<>]{1,40}?) ?\*? ?(\[\[.{1,400}\]\])$")
ENTRY = re.compile(r"[^\[\],]+(?=[,\]])")
VARIABLE = re.compile(r"^\s*[a-zA-Z]\s*$")
NAMED = re.compile(r"^\s*([a-zA-Z])\s*=\s*")
BOTH = re.compile(r"^(.*?)±(.+)$")
JOINED = re.compile(r"\s*,?\s+(?:and|or)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Group:
    """Parts in the brackets they were written in; both are blank for a bare list, `∪` for a union."""

    opened: str
    closed: str
    parts: tuple[str, ...]
    ordered: bool = True


@lru_cache(maxsize=4096)
def group(text: str) -> tuple[Group, ...]:
    """The ways to read a text as parts, none for a text of one part. Never raises.

    There are two where a comma may be a thousands separator: `[1,000, 2]`.
    """
    text = MEMBER.sub("", plain(text).rstrip(" .;"))
    text = re.sub(r"\b(?:infinity|inf|oo)\b", "∞", text, flags=re.IGNORECASE)
    if "∪" in text:
        parts = tuple(part.strip() for part in text.split("∪", MANY + 1))
        return (Group("∪", "∪", parts, ordered=False),) if len(parts) <= MANY else ()
    text = BUILDER.sub(r"\1", text)
    if match := SCALED.match(text):  # a number times a matrix
        factor, matrix = match.groups()
        text = ENTRY.sub(lambda entry: f"({factor})*({entry[0].strip()})", matrix)
    if interval := _inequality(text):
        return (interval,)
    either = tuple(re.split(r"\s+or\s+", text))
    if 1 < len(either) <= MANY and all(map(_inequality, either)):
        return (Group("∪", "∪", either, ordered=False),)
    if (match := BOTH.match(text)) and text.count("±") == 1:
        head = NAMED.sub("", match[1]).strip()
        return (
            Group("", "", (f"{head}+{match[2]}" if head else match[2], f"{head}-{match[2]}"), ordered=False),
        )
    opened = closed = ""
    if len(text) > 1 and text[0] in OPENING and text[-1] in CLOSING and _encloses(text):
        opened, closed, text = text[0], text[-1], text[1:-1]
    unordered = opened in ("{", "⦃")
    name = NAMED.match(text)
    readings: dict[tuple[str, ...], bool] = {}
    for comma in (r"[,;]", r"[,;](?!\d{3}(?!\d))") if re.search(r"\d,\d{3}(?!\d)", text) else (r"[,;]",):
        parts = _split(text, comma)
        if len(parts) == 1 and not opened:
            parts = tuple(JOINED.split(text)[: MANY + 1])
            if len(parts) > 1:
                readings[parts] = True
                continue
        elif len(parts) > 1 and not opened and (last := JOINED.split(parts[-1]))[1:]:
            parts = (*parts[:-1], *last)
        elif len(parts) > 1 and not opened and re.match(r"(?:and|or)\s", parts[-1]):
            parts = (*parts[:-1], parts[-1].split(None, 1)[1])
        if len(parts) > 1 or opened in ("⦃", "["):
            readings[parts] = unordered or (name is not None and not opened)
    return tuple(
        Group(opened, closed, parts, not loose) for parts, loose in readings.items() if len(parts) <= MANY
    )


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
    first, second = a.opened + a.closed, b.opened + b.closed
    if first == second:
        return True
    kinds = {first.translate(str.maketrans("⦃⦄", "{}")), second.translate(str.maketrans("⦃⦄", "{}"))}
    if len(kinds) == 1:
        return True
    if "" in kinds:
        return kinds <= {"", "()", "[]", "{}"} and not any("∞" in part for part in (*a.parts, *b.parts))
    return kinds == {"()", "[]"} and len(a.parts) > 2  # of two parts they are different intervals


def _split(text: str, comma: str) -> tuple[str, ...]:
    """The parts between the commas that stand in no bracket."""
    if not text.strip():
        return ()
    parts, start, depth = [], 0, 0
    for match in re.finditer(rf"[{re.escape(OPENING + CLOSING)}]|{comma}", text):
        sign = match[0]
        if sign in OPENING:
            depth += 1
        elif sign in CLOSING:
            depth -= 1
        elif depth == 0:
            parts.append(text[start : match.start()].strip(" '\""))
            start = match.end()
    return (*parts, text[start:].strip(" '\""))


def _encloses(text: str) -> bool:
    """Whether the first bracket of a text closes at its end."""
    depth = 0
    for i, char in enumerate(text):
        depth += (char in OPENING) - (char in CLOSING)
        if depth == 0:
            return i == len(text) - 1
    return False


def _inequality(text: str) -> Group | None:
    """`x <= 4` as the interval it means, and `-2 < x <= 1`."""
    if match := TWO.match(text):
        low, left, middle, right, high = (
            match.group(1, 2, 3, 4, 8) if match[2] else (match[8], match[7], match[6], match[5], match[1])
        )
        if VARIABLE.match(middle):
            return Group(
                "(" if left in "<>" else "[", ")" if right in "<>" else "]", (low.strip(), high.strip())
            )
        return None
    match = ONE.match(text)
    if match is None:
        return None
    left, sign, right = match.groups()
    if not VARIABLE.match(left):
        if not VARIABLE.match(right):
            return None
        left, sign, right = right, sign.translate(str.maketrans("<>≤≥", "><≥≤")), left
    bound = right.strip()
    if sign[0] in "<≤":
        return Group("(", ")" if sign == "<" else "]", ("-∞", bound))
    return Group("(" if sign == ">" else "[", ")", (bound, "∞"))
