r"""The reference for the teachers (a*): an answer or a solution of a row, without its markup.

    answer of a row                     rules="paper"           rules="code"
    ```json⏎{"a": 1}⏎```                {"a": 1}                {"a": 1}
    <answer>B</answer>                  B                       B
    The answer is \boxed{4} cm.         The answer is 4 cm.     4
    Answer: B                           B                       B
    `B`                                 B                       B
    "STOP"                              "STOP"                  STOP

`code` is the parser of the authors' program. It reads the answer column only, so a solution stays as it is.
The paper names no rules. Those of `paper` remove what is markup and keep what may be a part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from vigos_cli.method.segments import first_box, unbox
from vigos_cli.types import Sample

FENCE, TAG, TAG_END = "```", "<answer>", "</answer>"
FENCE_MARK = re.compile(r"^\s*```[\w+-]*\s*$|```", re.MULTILINE)
LANGUAGE = re.compile(r"[\w+-]*[ \t]*\n")  # the rest of the line that opens a fence
LABEL = re.compile(r"(?:\s*answer\s*:)+", re.IGNORECASE)
QUOTES = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)')\s*""")
BACKTICKS = re.compile(r"\s*`([^`]*)`\s*")


def _between(text: str, opening: str, closing: str) -> str:
    """What stands between the first pair of marks; the text without a pair."""
    _, found, rest = text.partition(opening)
    content, closed, _ = rest.partition(closing)
    return content if found and closed else text


def _fenced(text: str) -> str:
    """The content of the first code fence, without the name of a language; the text without a fence.

    A first line with nothing after it is the answer and no language.
    """
    content = _between(text, FENCE, FENCE)
    rest = content if content == text else _without(LANGUAGE, content)
    return rest if rest.strip() else content


def _without_fences(text: str) -> str:
    """The text without the marks of code fences and the names of their languages, by the same rule."""
    rest = FENCE_MARK.sub("", text)
    return rest if rest.strip() else text.replace(FENCE, "")


def _boxed(text: str) -> str:
    """The content of the first box; the text without a box, or if it stays open."""
    found = first_box(text)
    return text[slice(*found)] if found else text


def _without(start: re.Pattern[str], text: str) -> str:
    """The text without what it starts with."""
    match = start.match(text)
    return text[match.end() :] if match else text


def _inside(whole: re.Pattern[str], text: str) -> str:
    """The content, if the whole text is a pair of marks around it; else the text."""
    match = whole.fullmatch(text)
    return next((group for group in match.groups() if group is not None), text) if match else text


Rules = Mapping[str, Callable[[str], str]]

# In this order. What stands around a fence, a tag or a box is cut. Quotes and backticks are cut if they are
# the first and the last character and do not stand between them: `"yes" and "no"` keeps its quotes.
CODE: Rules = {
    "fence": _fenced,
    "tag": lambda text: _between(text, TAG, TAG_END),
    "box": _boxed,
    "label": lambda text: _without(LABEL, text),
    "quotes": lambda text: _inside(QUOTES, text),
    "backticks": lambda text: _inside(BACKTICKS, text),
}

# Marks are removed, and what stands around them is kept: it may be a unit or a second answer (`\boxed{4} cm`,
# `\boxed{2} or \boxed{3}`), and the teacher understands a sentence.
MARKS: Rules = {
    "fence": _without_fences,
    "tag": lambda text: text.replace(TAG, "").replace(TAG_END, ""),
    "box": unbox,
}

# In the answer column also the label and backticks: both are markup, and the control `sft` writes the answer
# into the student's box. Quotes are kept: they may be a part of the answer, as in a question about a program.
PAPER: Rules = MARKS | {"label": CODE["label"], "backticks": CODE["backticks"]}


def reference_text(sample: Sample, which: str = "answer", rules: str = "paper") -> str:
    """The reference for the teachers: the answer, or the worked `solution` (the answer if there is none).

    `rules` are `paper` or `code`; the module docstring shows both. They are repeated until the text stays the
    same, so that `Answer: "B"` and `"Answer: B"` both become B.
    """
    if which == "solution" and sample.solution:
        return _cleaned(sample.solution, MARKS if rules == "paper" else {})
    return _cleaned(sample.answer, PAPER if rules == "paper" else CODE)


def _cleaned(text: str, rules: Rules) -> str:
    """The text after the rules, each of which makes it shorter or leaves it as it is."""
    before = None
    while text != before:
        before = text
        for rule in rules.values():
            text = rule(text)
    return text.strip()
