r"""Choose the answers that math-verify may compare, and write them in LaTeX for it.

>>> latex("x^2 <= 4")
'x^2 \\le  4'
>>> latex("12 cm") is latex("H2O") is latex("red") is None
True

math-verify drops units, and reads a word as a product of its letters. So no text with a unit or a word is
given to it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from vigos_cli.grading.normal import plain
from vigos_cli.grading.units import NAMES
from vigos_cli.grading.worker import LONGEST

COMMAND = re.compile(r"\\[a-zA-Z]+")
FUNCTION = re.compile(
    r"\b(sqrt|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan|min|max)(?![a-z])"
)
RUN = re.compile(r"[^\W\d_]{2,}")
NO_FORMULA = re.compile(  # ranges and times, H2O, units, words, two numbers side by side, x^2^3
    r"\d:\d|^\d+-\d+$|[A-Za-z]\d|[°%$€£¥\"?!@#&]|[^\W\d_] [^\W\d_]{2,}|[\w)}\]] +\d|\^ ?-?\w+ ?\^"
)
SAYS = re.compile(r"[\d+\-*/^=<>≤≥∪∈√π∞\\]")
LOG = re.compile(r"\\?\blog ?_ ?\{?(\w+)\}? ?\(?(\w+)\)?")
ROOT = re.compile(r"(?:\bsqrt|√) ?(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+|[a-zA-Z]))")
COMMANDS = "pi infty le ge ne cup in pm cdot"
SIGNS = str.maketrans(
    {sign: f"\\{name} " for sign, name in zip("π∞≤≥≠∪∈±*", COMMANDS.split(), strict=True)}
    | {"⦃": r"\{", "⦄": r"\}"}
)


@lru_cache(maxsize=2048)
def latex(text: str) -> str | None:
    """The expression as LaTeX; None if the text is no expression, has a unit or words, or is too long."""
    text = plain(text).replace("ℯ", "e").rstrip(" .;,")
    if not text or len(text) > LONGEST:
        return None
    if len(text) == 1:
        return text if text.isalnum() else None
    text = LOG.sub(r"\\log_{\1}(\2)", text)
    if NO_FORMULA.search(COMMAND.sub("", text.replace("**", "^"))) or not SAYS.search(text):
        return None
    for run in RUN.findall(FUNCTION.sub(" ", COMMAND.sub(" ", text))):
        if len(run) > 2 or run in NAMES or not (run.islower() or run.isupper()):
            return None
    text = ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2] or m[3] or ''}}}", text)
    text = FUNCTION.sub(lambda m: m[0] if text[m.start() - 1 : m.start()] == "\\" else "\\" + m[0], text)
    return text.replace("**", "^").replace("<=", "≤").replace(">=", "≥").translate(SIGNS)
