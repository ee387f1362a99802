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
import re
from fractions import Fraction
from typing import Any

from mpmath import libmp
from mpmath.ctx_mp import MPContext

TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
    r"|(?P<name>\\frac|\\sqrt|sqrt(?![a-z])|√|π|pi(?![a-z])|(?<![a-zA-Z])e(?![\w:.]))|(?P<power>\*\*|\^)"
    r"|(?P<sign>[-+*/(){}\[\]!]))"
)
MIXED = re.compile(
    r"(?<![\d./])(\d{1,9}) ?(?:\\frac ?\{(\d{1,9})\} ?\{(\d{1,9})\}| (\d{1,9}) ?/ ?(\d{1,9})(?![\d/.]))"
)
SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,])")
TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
DIGIT = re.compile(r"\s*(\d)(?=\d)")
BITS = 20_000  # of the largest rational number
DIGITS = 600  # of a number as written
IRRATIONAL_BITS = 150  # of a rational number that is combined with an irrational one
DEEPEST = 40
FACTORIAL = 1_000

REAL = MPContext()  # a context of its own: nothing else changes its precision
REAL.dps = 100
CLOSE = REAL.mpf(10) ** -60  # relative, between values that are not rational
LARGEST = REAL.mpf(10) ** 30  # of an irrational value

Value = Any  # a Fraction, or a number of REAL


class NotClosed(Exception):
    """The text is no closed form."""


class TooLarge(NotClosed):
    """The text is a closed form, but too large to compare it with certainty."""


def prefix(text: str) -> tuple[Value, str]:
    """The value of the longest closed form that `text` begins with, and the rest of it. Raises NotClosed.

    A minus between two whole numbers without blanks, `11-15`, is a range and not read.
    """
    text = TEN.sub("*", SPACED.sub(lambda m: m[0].replace(" ", ""), text))
    text = MIXED.sub(lambda m: f"({m[1]}+{m[2] or m[4]}/{m[3] or m[5]})", text)
    if re.match(r"\d+-\d", text):
        raise NotClosed("a range")
    reader = _Reader(text)
    try:
        value = reader.sum(0)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise NotClosed(str(error)) from None
    return value, text[reader.at :].strip()


def equal(a: Value, b: Value) -> bool:
    """Whether two values are the same: exactly if both are rational, to 60 digits otherwise."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    first, second = real(a), real(b)
    return abs(first - second) <= CLOSE * max(abs(first), abs(second))


def real(value: Value) -> Any:
    """A value as a number of 100 digits."""
    if not isinstance(value, Fraction):
        return value
    return REAL.mpf(value.numerator) / value.denominator


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
    """A recursive descent; `at` is how far the text has been read."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def peek(self) -> re.Match[str] | None:
        return TOKEN.match(self.text, self.at)

    def take(self, *signs: str) -> str | None:
        """Read the next token if it is one of `signs`."""
        token = self.peek()
        if token and token[0].strip() in signs:
            self.at = token.end()
            return token[0].strip()
        return None

    def sum(self, depth: int) -> Value:
        if depth > DEEPEST:
            raise NotClosed("nested too deeply")
        value = self.product(depth)
        while True:
            mark = self.at
            sign = self.take("+", "-")
            if sign is None:
                return value
            try:
                term = self.product(depth)
            except TooLarge:
                raise
            except NotClosed:
                if depth:
                    raise
                self.at = mark  # the sign belongs to the rest
                return value
            a, b = _both(value, term)
            value = _small(a + b if sign == "+" else a - b)

    def product(self, depth: int) -> Value:
        value = self.signed(depth)
        while True:
            mark = self.at
            if sign := self.take("*", "/"):
                try:
                    factor = self.signed(depth)
                except TooLarge:
                    raise
                except NotClosed:
                    if depth:
                        raise
                    self.at = mark
                    return value
                a, b = _both(value, factor)
                value = _small(a * b if sign == "*" else a / b)
                continue
            token = self.peek()
            if token is None or not (token["name"] or token["sign"] in ("(", "{")):
                return value
            try:
                a, b = _both(value, self.powered(depth))  # juxtaposed: 7√3, 2(3)
                value = _small(a * b)
            except TooLarge:
                raise
            except NotClosed:
                if depth:
                    raise
                self.at = mark
                return value

    def signed(self, depth: int) -> Value:
        sign = 1
        while found := self.take("+", "-"):
            sign = -sign if found == "-" else sign
        return sign * self.powered(depth)

    def powered(self, depth: int) -> Value:
        value = self.atom(depth)
        while self.take("!"):
            value = _factorial(value)
        token = self.peek()
        if token is None or not token["power"]:
            return value
        self.at = token.end()
        if depth > DEEPEST:
            raise NotClosed("nested too deeply")
        if self.take("{"):
            exponent = self.closing("}", depth)
        elif sign := self.take("+", "-"):
            exponent = self.powered(depth + 1) * (-1 if sign == "-" else 1)
        else:
            exponent = self.powered(depth + 1)  # binds to the right: 2^3^2
        return power(value, exponent)

    def atom(self, depth: int) -> Value:
        token = self.peek()
        if token is None:
            raise NotClosed("no number")
        self.at = token.end()
        if digits := token["number"]:
            return _number(digits)
        if (sign := token["sign"]) in ("(", "{"):
            return self.closing(")" if sign == "(" else "}", depth)
        if (name := token["name"]) in ("π", "pi"):
            return +REAL.pi
        if name == "e":
            return +REAL.e
        if name == "\\frac":
            a, b = _both(self.argument(depth), self.argument(depth))
            return _small(a / b)
        if name:
            degree: Value = Fraction(2)
            if name == "\\sqrt" and self.take("["):
                degree = self.closing("]", depth)
            if not isinstance(degree, Fraction):
                raise NotClosed("no root")
            return power(self.argument(depth), 1 / degree)
        raise NotClosed("no number")

    def argument(self, depth: int) -> Value:
        r"""What a command is applied to: a group, or, as in `\frac12`, one digit."""
        if self.take("{"):
            return self.closing("}", depth)
        if self.take("("):
            return self.closing(")", depth)
        if (match := DIGIT.match(self.text, self.at)) and self.text[self.at - 1] != "√":
            self.at = match.end()
            return Fraction(match[1])
        return self.atom(depth + 1) if depth < DEEPEST else self.sum(depth + 1)

    def closing(self, sign: str, depth: int) -> Value:
        value = self.sum(depth + 1)
        if not self.take(sign):
            raise NotClosed(f"no {sign}")
        return value


def _number(digits: str) -> Fraction:
    exponent = digits.lower().partition("e")[2]
    if len(digits) > DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > DIGITS:
        raise TooLarge("too large")
    return Fraction(digits.replace(",", ""))


def _both(a: Value, b: Value) -> tuple[Value, Value]:
    """Two values of one type. Raises TooLarge where a fraction is too long to become irrational."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a, b
    for value in (a, b):
        if isinstance(value, Fraction) and _bits(value) > IRRATIONAL_BITS:
            raise TooLarge("too large")
    return real(a), real(b)


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _factorial(value: Value) -> Fraction:
    if not isinstance(value, Fraction) or value.denominator != 1 or value < 0:
        raise NotClosed("no factorial")
    if value > FACTORIAL:
        raise TooLarge("too large")
    return Fraction(math.factorial(value.numerator))


def power(base: Value, exponent: Value) -> Value:
    """A value raised to a power; exact where the result is rational. Raises NotClosed."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if base in (0, 1) and exponent > 0:
            return base
        if abs(exponent) * _bits(base) > BITS:
            raise TooLarge("too large")
        if exponent.denominator == 1:
            return base**exponent.numerator
        if base < 0 and (exponent.denominator % 2 == 0 or exponent.numerator != 1):
            raise NotClosed("not real")
        if exponent.denominator <= 64 and (root := _root(base, exponent.denominator)) is not None:
            return root**exponent.numerator
        if base < 0:
            return -power(-base, exponent)
    first, second = _both(base, exponent)
    if abs(second) > 1000:
        raise TooLarge("too large")
    value = real(first) ** real(second)
    if not isinstance(value, REAL.mpf):
        raise NotClosed("not real")
    return _small(value)


def _root(base: Fraction, degree: int) -> Fraction | None:
    """The exact root of a fraction; None where it is irrational."""
    sign = -1 if base < 0 else 1
    if sign < 0 and degree % 2 == 0:
        return None
    parts = []
    for part in (abs(base.numerator), base.denominator):
        root = math.isqrt(part) if degree == 2 else _integer_root(part, degree)
        if root**degree != part:
            return None
        parts.append(root)
    return Fraction(sign * parts[0], parts[1])


def _integer_root(value: int, degree: int) -> int:
    """The largest integer whose power is at most `value`, by bisection."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle - 1)
    return low


def _small(value: Value) -> Value:
    if isinstance(value, Fraction):
        if _bits(value) > BITS:
            raise TooLarge("too large")
    elif value and not 1 / LARGEST < abs(value) < LARGEST:
        raise TooLarge("too large")
    return value
