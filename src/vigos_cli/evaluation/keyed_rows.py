"""The rows of a JSON file that is one object from ids to rows, such as MathVista's testmini.json.

    {"1": {"pid": "1", "question": "...", "image": "images/1.jpg", ...}, "2": {...}, ...}

>>> rows = keyed_rows(Path("testmini.json"))
>>> len(rows), rows[0]["pid"]
(1000, '1')
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vigos_cli.evaluation.row_reader import Row


class KeyedRows(Sequence[Row]):
    """The rows in the order of the file, and the names of their columns."""

    def __init__(self, rows: Sequence[Row]):
        self.rows = rows
        self.names = list(dict.fromkeys(name for row in rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return self.rows[index]


def keyed_rows(path: Path) -> KeyedRows | None:
    """The rows of a `.json` file that is one object whose values are all objects; None for other files."""
    if path.suffix.lower() != ".json":
        return None
    with path.open("rb") as file:
        if not file.read(64).lstrip().startswith(b"{"):
            return None
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # JSON lines
        return None
    rows = list(whole.values())
    return KeyedRows(rows) if rows and all(isinstance(row, dict) for row in rows) else None
