"""Write CSV rows whose texts a spreadsheet shows as texts.

>>> in_cell("=1+1"), in_cell("-0.5"), in_cell(0.5)
("'=1+1", '-0.5', 0.5)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vigos_cli.utils.control_characters import printable

BEGIN = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # of a formula


def csv_row(values: Iterable[Any]) -> list[Any]:
    """The values of a row, as `in_cell` writes them."""
    return [in_cell(value) for value in values]


def in_cell(value: Any) -> Any:
    """The value; a text that a spreadsheet would compute gets a single quote in front, as spreadsheets do.

    A number stays as it is, and so does a sign alone. Control characters become their numbers.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.lstrip(" ").startswith(BEGIN) or len(text.strip()) < 2:
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
