r"""The value of a closed form: `3/4`, `1.5\times 10^3`, `7\sqrt{3}`, `\frac{2\pi}{3}`, `4!`, `1/e`.

>>> prefix("3/4 cup")
(Fraction(3, 4), 'cup')
>>> equal(prefix("sqrt(147)")[0], prefix("7 sqrt(3)")[0])
True

A rational value is exact. An irrational one has 100 digits, and two of them are equal if 60 digits are.
Values for which this would not be certain raise TooLarge. Nothing is evaluated as code; numbers, powers and
nesting have a largest size, so that no input takes long.
"""

from __future__ import annotations

import math
import operator
import re
from fractions import Fraction
from typing import Any

from mpmath import libmp
from mpmath.ctx_mp import MPContext

TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
    r"|(?P<name>\\frac|\\sqrt|sqrt(?![a-z])|√|π|pi(?![a-z])|ℯ|(?<![a-zA-Z])e(?![\w:.]))|(?P<power>\*\*|\^)"
    r"|(?P<sign>[-+*/(){}\[\]!]))"
)
MIXED = re.compile(
    r"(?<![\d./])(\d{1,9}) ?(?:\\frac ?\{(\d{1,9})\} ?\{(\d{1,9})\}| (\d{1,9}) ?/ ?(\d{1,9})(?![\d/.]))"
)
SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,])")
TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
DIGIT = re.compile(r"\s*(\d)(?=\d)")
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
CLOSING = {"(": ")", "{": "}", "[": "]"}
BITS = 20_000  # number of bits of the largest rational number
DIGITS = 600  # number of characters of a number as written
IRRATIONAL_BITS = 150  # number of bits of a rational number that is combined with an irrational one
DEEPEST = 40
FACTORIAL = 1_000

REAL = MPContext()  # our own context, so that no other code changes its precision
REAL.dps = 100
CLOSE = REAL.mpf(10) ** -60  # relative difference of irrational values that are equal
LARGEST = REAL.mpf(10) ** 30  # largest irrational value

Value = Any  # a Fraction, or a number of REAL


class NotClosed(Exception):
    """The text is no closed form."""


class TooLarge(NotClosed):
    """The text is a closed form, but too large to compare it with certainty."""


def prefix(text: str) -> tuple[Value, str]:
    """The value of the longest closed form that `text` begins with, and the rest of it. Raises NotClosed.

    A minus between two whole numbers without blanks, `11-15`, is a range and is not read.
    """
    text = TEN.sub("*", SPACED.sub(lambda m: m[0].replace(" ", ""), text))
    text = MIXED.sub(lambda m: f"({m[1]}+{m[2] or m[4]}/{m[3] or m[5]})", text)
    if re.match(r"\d+-\d", text):
        raise NotClosed("a range")
    reader = _Reader(text)
    try:
        value = reader.expression(0)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise NotClosed(str(error)) from None
    return value, text[reader.at :].strip()


def equal(a: Value, b: Value) -> bool:
    """Whether two values are the same: exactly if both are rational, to 60 digits otherwise."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    first, second = _real(a), _real(b)
    return abs(first - second) <= CLOSE * max(abs(first), abs(second))


def times(a: Value, b: Value) -> Value:
    """The product of two values."""
    first, second = _both(a, b)
    return first * second


def rational(value: Value) -> Fraction:
    """A value as a fraction, to 100 digits if it is irrational."""
    return value if isinstance(value, Fraction) else Fraction(*libmp.to_rational(value._mpf_))


def shape(text: str) -> tuple:
    """An expression as nested tuples, in which brackets around a single part make no difference."""
    levels: list[list] = [[]]
    for char in text:
        if char in "({[":
            levels.append([])
        elif char in ")}]" and len(levels) > 1:
            inner = levels.pop()
            levels[-1].append(inner[0] if len(inner) == 1 else tuple(inner))
        elif not char.isspace():
            levels[-1].append(char)
    return tuple(tuple(level) for level in levels)


class _Reader:
    """Reads a text from left to right by operator precedence; `at` is how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def take(self, signs: str) -> str | None:
        """Read the next token if it is one of these signs."""
        token = TOKEN.match(self.text, self.at)
        if token and token["sign"] and token["sign"] in signs:
            self.at = token.end()
            return token["sign"]
        return None

    def expression(self, depth: int, lowest: int = 1) -> Value:
        """The terms that are joined by operators of the precedence `lowest` or higher.

        Outside of brackets (`depth` 0) it ends in front of an operator without a number behind it.
        """
        if depth > DEEPEST:
            raise NotClosed("nested too deeply")
        value = self.signed(depth)
        while token := TOKEN.match(self.text, self.at):
            mark, sign = self.at, token["sign"]
            juxtaposed = bool(token["name"]) or sign in ("(", "{")  # `7√3`, `2(3)`
            sign = "*" if juxtaposed else sign
            if PRECEDENCE.get(sign or "", 0) < lowest:
                return value
            try:
                if juxtaposed:
                    right = self.powered(depth)
                else:
                    self.at = token.end()
                    right = self.expression(depth, PRECEDENCE[sign] + 1)
                value = _calculated(value, sign, right)
            except TooLarge:
                raise
            except NotClosed:
                if depth:
                    raise
                self.at = mark
                return value
        return value

    def signed(self, depth: int) -> Value:
        sign = 1
        while found := self.take("+-"):
            sign = -sign if found == "-" else sign
        return sign * self.powered(depth)

    def powered(self, depth: int) -> Value:
        value = self.atom(depth)
        while self.take("!"):
            value = _factorial(value)
        token = TOKEN.match(self.text, self.at)
        if token is None or not token["power"]:
            return value
        self.at = token.end()
        if depth > DEEPEST:
            raise NotClosed("nested too deeply")
        if self.take("{"):
            return power(value, self.bracketed("{", depth))
        return power(value, self.signed(depth + 1))  # binds to the right: 2^3^2

    def atom(self, depth: int) -> Value:
        token = TOKEN.match(self.text, self.at)
        if token is None:
            raise NotClosed("no number")
        self.at = token.end()
        if token["number"]:
            return _number(token["number"])
        if token["sign"] in ("(", "{"):
            return self.bracketed(token["sign"], depth)
        name = token["name"]
        if name in ("π", "pi", "e", "ℯ"):
            return +REAL.e if name in "eℯ" else +REAL.pi
        if name == "\\frac":
            return _calculated(self.argument(depth), "/", self.argument(depth))
        if name:
            degree = self.bracketed("[", depth) if name == "\\sqrt" and self.take("[") else Fraction(2)
            return power(self.argument(depth), _calculated(Fraction(1), "/", degree))
        raise NotClosed("no number")

    def argument(self, depth: int) -> Value:
        r"""What a command is applied to: a group, or, as in `\frac12`, one digit."""
        if opening := self.take("{("):
            return self.bracketed(opening, depth)
        if (match := DIGIT.match(self.text, self.at)) and self.text[self.at - 1] != "√":
            self.at = match.end()
            return Fraction(match[1])
        if depth >= DEEPEST:
            raise NotClosed("nested too deeply")
        return self.atom(depth + 1)

    def bracketed(self, opening: str, depth: int) -> Value:
        """The value of an opened bracket."""
        value = self.expression(depth + 1)
        if not self.take(CLOSING[opening]):
            raise NotClosed(f"no {CLOSING[opening]}")
        return value


def _number(digits: str) -> Fraction:
    exponent = digits.lower().partition("e")[2]
    if len(digits) > DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > DIGITS:
        raise TooLarge("too large")
    return Fraction(digits.replace(",", ""))


def _calculated(a: Value, sign: str, b: Value) -> Value:
    """The result of one of the four operations. Raises TooLarge if it is too large or too long."""
    value = OPERATIONS[sign](*_both(a, b))
    if isinstance(value, Fraction):
        if _bits(value) > BITS:
            raise TooLarge("too large")
    elif value and not 1 / LARGEST < abs(value) < LARGEST:
        raise TooLarge("too large")
    return value


def _both(a: Value, b: Value) -> tuple[Value, Value]:
    """Two values of one type. Raises TooLarge if a fraction is too long to become irrational."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a, b
    if any(isinstance(value, Fraction) and _bits(value) > IRRATIONAL_BITS for value in (a, b)):
        raise TooLarge("too large")
    return _real(a), _real(b)


def _real(value: Value) -> Any:
    """A value as a number of 100 digits."""
    return REAL.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _factorial(value: Value) -> Fraction:
    if not isinstance(value, Fraction) or value.denominator != 1 or value < 0:
        raise NotClosed("no factorial")
    if value > FACTORIAL:
        raise TooLarge("too large")
    return Fraction(math.factorial(value.numerator))


def power(base: Value, exponent: Value) -> Value:
    """A value raised to a power; exact if the result is rational. Raises NotClosed."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if base in (0, 1) and exponent > 0:
            return base
        if abs(exponent) * _bits(base) > BITS:
            raise TooLarge("too large")
        if exponent.denominator == 1:
            return base**exponent.numerator
        if base < 0 and (exponent.denominator % 2 == 0 or exponent.numerator != 1):
            raise NotClosed("not real")
        if base < 0:
            return -power(-base, exponent)
        if exponent.denominator <= 64 and (root := _root(base, exponent.denominator)) is not None:
            return root**exponent.numerator
    first, second = _both(base, exponent)
    if abs(second) > 1000:
        raise TooLarge("too large")
    value = _real(first) ** _real(second)
    if not isinstance(value, REAL.mpf):
        raise NotClosed("not real")
    return _calculated(value, "*", REAL.one)


def _root(base: Fraction, degree: int) -> Fraction | None:
    """The exact root of a positive fraction; None if it is irrational."""
    parts = (base.numerator, base.denominator)
    roots: list[Any] = [
        libmp.to_int(libmp.mpf_nthroot(libmp.from_int(part), degree, part.bit_length() + 10), "n")
        for part in parts
    ]
    return Fraction(*roots) if all(r**degree == p for r, p in zip(roots, parts, strict=True)) else None
