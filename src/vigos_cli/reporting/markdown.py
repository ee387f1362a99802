r"""Write Markdown: tables, and texts of others in a form that stays text.

>>> print(markdown_table(("arm", "n"), [("vigos", 3)]))
| arm | n |
|---|---|
| vigos | 3 |
>>> print(literal("<b> *x* | y"))
\<b> \*x\* \| y
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vigos_cli.utils.control_characters import visible

MARKS = re.compile(r"^[#>]|[\\`*|<~$]|\](?=[(:])|\[(?=\^)|&(?=[#a-zA-Z])")  # `_` in a word makes no markup
FENCE = re.compile("`+")


def markdown_table(
    header: Iterable[object], rows: Iterable[Iterable[object]], *, marked: bool = False
) -> str:
    """The table as text without a final newline. Each cell is text, or Markdown of our own if `marked`."""
    heads, cell = list(header), _escaped_bars if marked else literal
    lines = (f"| {' | '.join(cell(str(one)) for one in cells)} |" for cells in (heads, *rows))
    return "\n".join([next(lines), "|---" * len(heads) + "|", *lines])


def _escaped_bars(text: str) -> str:
    """Markdown on one line in which a bar does not end a cell."""
    return " ".join(text.splitlines()).replace("|", "\\|")


def literal(text: str) -> str:
    """A text that Markdown shows as it is, on one line; invisible characters become their numbers."""
    return MARKS.sub(r"\\\g<0>", visible(" ".join(text.splitlines())))


def as_code(text: str) -> str:
    """A text as code on one line, between more backticks than it contains."""
    line = visible(" ".join(text.splitlines()))
    fence = "`" * (max(map(len, FENCE.findall(line)), default=0) + 1)
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"
