r"""Read numbers with their units: thousands separators, percent, ratios and number words.

>>> same_quantity(quantity("12 cm"), quantity("120 mm"))
True
>>> same_quantity(quantity("12 cm"), quantity("12 m"))
False
>>> quantity("twenty-one") == quantity("21")
True
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from vigos_cli.grading.expression import NotClosed, TooLarge, Value, equal, power, prefix, rational, times
from vigos_cli.grading.normal import LONGEST, plain, words
from vigos_cli.grading.units import NAMES, Unit, bare, unit

SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORDS = {word: i for i, word in enumerate(SMALL.split())} | {
    word: 10 * i for i, word in enumerate(TENS.split(), 2)
}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALE = re.compile(r"(thousand|million|billion|trillion)\b\s*", re.IGNORECASE)
PLACES = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
RANKS = {word: i for i, word in enumerate(PLACES.split())}
RANK = re.compile(rf"(?:(\d{{1,4}})(?:st|nd|rd|th)|{'|'.join(RANKS)})$", re.IGNORECASE)
PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "tenth": 10}
PART = re.compile(rf"(?:(an?|\d{{1,3}}|{'|'.join(WORDS)})[ -])?({'|'.join(PARTS)})s?$", re.IGNORECASE)
SMALLER = re.compile(r"^(?P<unit>[^\W\d]+\.?),? (?:and )?(?P<rest>\d.*)$")  # `h 30 min` in `2 h 30 min`
MONEY = re.compile(r"^(-?)\s*(us\$|[$€£¥])\s*(?=[\d.\-])", re.IGNORECASE)
RATIO = re.compile(r"^(\d{1,9}(?:\.\d+)?) ?(?::|to) ?([1-9]\d{0,8}(?:\.\d+)?)$")  # 3:05 is a time of day
NAME = re.compile(r"^[^\W\d\\][\w\s{}()∠△',.]{0,40}$|^m?[∠△].{1,8}$")  # `x`, `f(2)`, `area of ABC`
GENERAL = "the of a an answer result value total it final so thus measure"
LETTER = re.compile(r"(?<![^\W\d_\\])([^\W\d_])(?![^\W\d_])")  # one letter alone: a variable or a unit
ARTICLE = re.compile(r"\b[aI](?= [^\W\d_])", re.IGNORECASE)
COMMAND = re.compile(r"\\[a-zA-Z]+|\bsqrt\b")
COMPARES = re.compile(r"[<>≤≥≠]|!=|\\not")  # `x <= 4` is not 4
TWICE = re.compile(r"[=≈][^=≈]*[,;]\s*[^=≈,;]*[=≈]")  # two equations


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its unit (None for a bare number) and the name that it was given (`x` in `x = 5`)."""

    value: Value
    unit: Unit | None = None
    name: str = ""


def quantity(text: str) -> Quantity | None:
    """The quantity that a whole text stands for; None if it is anything else. Never raises."""
    return _quantity(text[:LONGEST])


@lru_cache(maxsize=1024)
def _quantity(text: str) -> Quantity | None:
    text = plain(text).lstrip(" ;!\"'").rstrip(" .;\"'")
    name = ""
    if COMPARES.search(text) or TWICE.search(text):
        return None
    *before, text = (part.strip() for part in re.split(r"[=≈]", text))
    if before and NAME.match(before[0]) and not _calculates(before[0]):
        name = " ".join(before.pop(0).split())
    if not all(map(_calculates, before)):  # an equation is no quantity
        return None
    read = _read(text) or _read(words(text))
    return Quantity(read.value, read.unit, name) if read else None


def _calculates(text: str) -> bool:
    """Whether a side of an equation has numbers and no variable: `3 ft + 3 ft`, but not `3x`."""
    bare_text = ARTICLE.sub("", COMMAND.sub(" ", text))
    return any(map(str.isdigit, text)) and all(
        letter[1] in NAMES and re.search(r"\d ?$", bare_text[: letter.start()])
        for letter in LETTER.finditer(bare_text)
    )


def _read(text: str, nested: int = 0) -> Quantity | None:
    """A number in any notation and its unit; `nested` counts the smaller units read so far."""
    text = text.removeprefix("+")
    if match := RATIO.match(text):
        return Quantity(Fraction(match[1]) / Fraction(match[2]))
    if match := RANK.match(text):
        return Quantity(Fraction(match[1] or RANKS[text.lower()]), unit("place"))
    if (match := PART.match(text)) and (match[1] or match[2].lower() == "half"):
        count = (match[1] or "one").lower()
        return Quantity(
            Fraction(int(count) if count.isdigit() else WORDS.get(count, 1), PARTS[match[2].lower()])
        )
    if money := MONEY.match(text):
        text = money[1] + text[money.end() :]
    try:
        value, rest = number_word(text) or prefix(text)
    except NotClosed:
        return None
    if scale := SCALE.match(rest):
        value, rest = times(value, Fraction(SCALES[scale[1].lower()])), rest[scale.end() :]
    rest = bare(rest)
    if not rest:
        return Quantity(value, unit(money[2].lower()) if money else None)
    if money:
        return None
    measured, smaller = unit(rest), SMALLER.match(rest) if nested < 2 else None
    if smaller and (whole := _compound(value, unit(smaller["unit"]), _read(smaller["rest"], nested + 1))):
        return whole
    return Quantity(value, measured) if measured else None


def _compound(value: Value, measured: Unit | None, more: Quantity | None) -> Quantity | None:
    """`2 h 30 min` and `5 ft 6 in`: a quantity in two units, of which the second is smaller."""
    if not (measured and more and more.unit and measured.dimension == more.unit.dimension):
        return None
    if more.unit.factor >= measured.factor:
        return None
    return Quantity(value + converted(more.value, more.unit, measured), measured)


def converted(value: Value, one: Unit, other: Unit) -> Value:
    """A value in one unit as it is in another unit of the same dimension."""
    return times(times(value, one.factor), power(other.factor, Fraction(-1)))


def too_large(text: str) -> bool:
    """Whether a text begins with a closed form that is too large to compare it with certainty."""
    try:
        prefix(plain(text))
    except NotClosed as error:
        return isinstance(error, TooLarge)
    return False


def number_word(text: str) -> tuple[Value, str] | None:
    """A number written as words at the head of a text, and what follows; None without one."""
    text = re.sub(r"^an? (?=hundred|thousand|[mbtr]+illion)", "one ", text.lower().replace("-", " "))
    tokens = text.split()
    total, part, used = 0, 0, 0
    for token in tokens:
        if token in WORDS:
            part += WORDS[token]
        elif token in SCALES and used:
            part = part * SCALES[token]
            if SCALES[token] > 100:
                total, part = total + part, 0
        elif not (token == "and" and used and part >= 100):
            break
        used += 1
    return (Fraction(total + part), " ".join(tokens[used:])) if used else None


def with_unit(read: Quantity, name: str | None) -> Quantity:
    """A bare quantity with the item's unit, if it has one."""
    return read if read.unit or not name else Quantity(read.value, unit(plain(name)), read.name)


def same_quantity(a: Quantity | None, b: Quantity | None, precision: int | None = None) -> bool:
    """Whether two quantities are the same to `precision` decimals, or exactly without one.

    A missing unit makes no difference. Units of one dimension are converted; others are different. 50% is
    0.5, and also a bare 50, unless the bare number is at most 1. Two names, `x = 5` and `y = 5`, are
    different.
    """
    if a is None or b is None or _other_name(a.name, b.name):
        return False
    if a.unit is None or b.unit is None:
        number, other = (a, b) if a.unit is None else (b, a)
        if other.unit is None or other.unit.dimension != (("share", 1),):
            return _close(a.value, b.value, precision)
        if _close(number.value, times(other.value, other.unit.factor), precision):
            return True
        return _close(a.value, b.value, precision) and not 0 < abs(number.value) <= 1
    if a.unit.dimension != b.unit.dimension:
        return _counted(a.unit, b.unit) and _close(a.value, b.value, precision)
    if a.unit.factor == b.unit.factor:
        return _close(a.value, b.value, precision)
    try:
        return any(
            _close(x.value, converted(y.value, y.unit, x.unit), precision)
            for x, y in ((a, b), (b, a))
            if x.unit and y.unit
        )
    except NotClosed:
        return False


def _other_name(a: str, b: str) -> bool:
    """Whether two names have no word in common, and neither is short for the other (`A` and `area`)."""
    first, second = (
        {word for word in re.sub(r"m?∠ ?", "∠", words(name)).split() if word not in GENERAL.split()}
        for name in (a, b)
    )
    if not first or not second or first & second:
        return False
    short = min("".join(first), "".join(second), key=len)
    return not (len(short) == 1 and any(word.startswith(short) and len(word) > 2 for word in first | second))


def _counted(a: Unit, b: Unit) -> bool:
    """Whether two counted things may be the same: `red apples` and `apples`."""
    first, second = (set(u.dimension[0][0].split() if u.dimension else ()) for u in (a, b))
    return "counted" in first & second and (first <= second or second <= first)


def _close(a: Value, b: Value, precision: int | None) -> bool:
    if precision is None or not 0 <= precision <= 30:
        return equal(a, b)
    return equal(a, b) or abs(rational(a) - rational(b)) <= Fraction(1, 2 * 10**precision)
