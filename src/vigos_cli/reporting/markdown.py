"""Write a Markdown table.

>>> print(markdown_table(("arm", "n"), [("vigos", 3)]))
| arm | n |
|---|---|
| vigos | 3 |
"""

from __future__ import annotations

from collections.abc import Iterable


def markdown_table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """The table as text without a final newline. `|` is escaped, and a line break becomes a space."""
    heads = list(header)
    return "\n".join([_line(heads), "|---" * len(heads) + "|", *map(_line, rows)])


def _line(cells: Iterable[object]) -> str:
    texts = (" ".join(str(cell).splitlines()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"
