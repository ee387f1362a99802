r"""Normalise answers: one form for the different ways in which people, models and LaTeX write.

>>> plain(r"$12\,\mathrm{cm}^2$")
'12 cm ^2'
>>> words("It is **Red**.")
'red'
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

LONGEST = 2_000  # number of characters of an answer that are read; a longer answer is prose
NOTHING = {"", "none", "null", "nan", "n/a", "nil", "undefined", "?", "-", "[]", "{}", "()"}

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_CHARACTERS = str.maketrans(
    "−–—‐‑‒﹣－×·⋅∙“”„″‘’`′≦⩽≧⩾÷⁄∶。、μΩ\x00",
    "--------****\"\"\"\"''''≤≤≥≥//:.,µ\u03a9 ",
)
_COMMANDS = {  # the plain signs of LaTeX commands
    "left": "", "right": "", "big": "", "Big": "", "bigl": "", "bigr": "", "displaystyle": "", "limits": "",
    "cdot": "*", "times": "*", "div": "/", "pi": "π", "infty": "∞", "le": "≤", "leq": "≤", "leqslant": "≤",
    "ge": "≥", "geq": "≥", "geqslant": "≥", "lt": "<", "gt": ">", "cup": "∪", "in": "∈", "pm": "±",
    "approx": "≈", "sim": "≈", "degree": "°", "circ": "°", "Omega": "Ω", "mu": "µ", "dfrac": "\\frac",
    "tfrac": "\\frac", "cfrac": "\\frac", "lbrace": "⦃", "rbrace": "⦄", "quad": " ", "qquad": " ",
    "colon": ":", "angle": "∠", "neq": "≠", "ne": "≠", "euro": "€", "pounds": "£", "displaylimits": "",
    "emptyset": "∅", "varnothing": "∅", "triangle": "△", "mid": "|",
}  # fmt: skip
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_MATRIX = re.compile(  # but no determinant, `vmatrix`, which is a number
    r"\\begin\{([pbB]?matrix|array)\}(?:\{[lcr|]*\})?(.*?)\\end\{\1\}", re.DOTALL
)
_ROW = re.compile(r"\\\\(?:\[[^\]]*\])?")
_BRACED = re.compile(  # `69{degrees}`
    r"(?<=[\d}π!)])\{([a-zA-Z]{2,}(?: [a-zA-Z]+){0,2}(?:\^\{?\d\}?)?)\}(?=[\s.]*$)"
)
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|bf|rm|mbox|operatorname|emph)\s*\{([^{}]*)\}"
)
_SPACES = re.compile(r"\\[,;:! ]|~|\\\\")
_DEGREES = re.compile(r"\^\s*\{\s*\*?\s*°\s*\}|\^\s*°|\*\s*°|\{\s*°\s*\}| +°")
_BOLD = re.compile(r"(?<![\w)])(?:\*\*|__)|(?:\*\*|__)(?![\w(\-])|^#+ +")  # `2**3` is a power
_ITALIC = re.compile(r"^([*_])([^*_]+)\1[.,]?$")
_MATH = re.compile(r"\$\$|\\[()\[\]]")
_DOLLARS = re.compile(r"\$(?!\s)([^$]*[^$\s\\])\$(?!\d)")  # `$5 to $6` is money
_STRAY = re.compile(r"(?<!\\)\$(?=[A-Za-z(])(?=[^$]*$)")  # without a second dollar sign
_LEAD = re.compile(  # `So the final answer is about`
    r"^(?:(?:so|thus|hence|therefore|well|ok|okay|answer|final answer)\b[\s,:]*)*"
    r"(?:(?:(?:the|my) )?(?:final |correct |right |best )?(?:answer|option|choice|result|value)"
    r"(?: is| would be|:|=)[\s:]*|"
    r"(?:it|this|that|there|they|these)(?: is| are|'s) |i (?:think|believe)(?: it is)? )?"
    r"(?:(?:about|approximately|approx\.?|around|roughly|≈|~)\s*)?"
)
_ARTICLE = re.compile(r"^(?:an?|the) (?=\S)")
_INFINITY = re.compile(r"\b(?:positive )?infinity\b")
_RANGE = re.compile(r"(?<=\d) ?(?:to|-) ?(?=\d)")
_SUBSCRIPT = re.compile(r"(?<=[^\W\d_])_(?:\{(\w+)\}|(\w))")
_FIGURE = re.compile(r"(?:\b(tri)?angle |(△)|∠) ?(?=\w)")
_SIGN = "[\\s†‡→•\u2600-\u27bf\u2b50\ufe0f\U0001f300-\U0001faff]"
_MARKS = re.compile(f"^{_SIGN}+|{_SIGN}+$")  # around an answer
_STARTS = " \t\r\n,;:'\""  # without the full stop: `.5` is a number
_ENDS = " \t\r\n.。!,;:'\""


def plain(text: str) -> str:
    r"""The text without markup: NFKC, LaTeX's plain signs, no emphasis, single blanks. Never raises.

    The braces of a set, `\{` and `\}`, become `⦃` and `⦄`. Braces that group stay.
    """
    return _plain(text[:LONGEST])


@lru_cache(maxsize=1024)  # its texts are short: a full cache needs a few megabytes
def _plain(text: str) -> str:
    text = _MATRIX.sub(lambda m: _rows(m[2]), text)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    text = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m[0]), text)
    text = _SUPERSCRIPT.sub(lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    text = text.replace("º", "°").translate(_CHARACTERS)
    normal = unicodedata.normalize("NFKC", text)
    text = (normal if len(normal) <= LONGEST else text).translate(
        _CHARACTERS
    )  # NFKC may replace one sign by 18
    text = _DOLLARS.sub(r"\1", _MATH.sub(lambda m: "$" if m[0] == "$$" else "", text.strip()))
    text = _STRAY.sub("", text)
    for _ in range(4):  # wrappers nest: \textbf{\text{(A)}}
        text, changed = _WRAPPED.subn(_unwrapped, text)
        if not changed:
            break
    for written, sign in (("\\%", "%"), ("\\$", "$"), ("{,}", ","), ("\\{", "⦃"), ("\\}", "⦄")):
        text = text.replace(written, sign)
    text = _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), _SPACES.sub(" ", text))
    text = _BRACED.sub(r" \1", _BOLD.sub("", _DEGREES.sub("°", text).strip()))
    return " ".join(_ITALIC.sub(r"\2", _MARKS.sub("", text)).split())


def _unwrapped(match: re.Match[str]) -> str:
    r"""The content of `\text{}`; a single letter, as in `3\mathrm{i}`, stays beside what is before it."""
    if match[1].strip() == "e":
        return "ℯ"  # the number, which `3e-1` would hide
    before = match.string[match.start() - 1 : match.start()]
    return match[1] if len(match[1]) == 1 and not before.isalpha() else f" {match[1]} "


def _rows(body: str) -> str:
    """The rows of a matrix as lists in a list; a single row or column as a list."""
    rows = [[entry.strip() for entry in row.split("&")] for row in _ROW.split(body) if row.strip()]
    if len(rows) == 1 or all(len(row) == 1 for row in rows):
        return f"({', '.join(entry for row in rows for entry in row)})"
    return "[" + ", ".join(f"[{', '.join(row)}]" for row in rows) + "]"


def words(text: str) -> str:
    """A text answer as it is compared: in lower case, without lead-in ("it is"), article or end punctuation.

    `10 to 15` becomes `10-15`, and `CO_2` becomes `co2`. Infinity, angle and triangle become signs.
    """
    return _words(text[:LONGEST])


@lru_cache(maxsize=1024)
def _words(text: str) -> str:
    text = plain(text).casefold().rstrip(_ENDS).lstrip(_STARTS)
    text = _FIGURE.sub(lambda m: "△" if m[1] or m[2] else "∠", text)
    text = _INFINITY.sub("∞", _RANGE.sub("-", _SUBSCRIPT.sub(lambda m: m[1] or m[2], text)))
    bare = _LEAD.sub("", text, count=1).rstrip(_ENDS).lstrip(_STARTS) or text
    return _ARTICLE.sub("", bare)


def nothing(text: str) -> bool:
    """Whether a text says nothing: empty, punctuation only, or a placeholder such as `None`."""
    bare = " ".join(text[:LONGEST].split()).casefold().strip(_ENDS)
    return bare in NOTHING or not any(
        unicodedata.category(char)[0] in "LN" or unicodedata.category(char) in ("Sm", "So")
        for char in plain(text)
    )
