"""Turn the value of a cell into text, or refuse it by the rule `not_text`.

>>> plain_text(" red "), plain_text(4), plain_text(None)
('red', '4', '')
"""

from __future__ import annotations

from math import isinf
from typing import Any

from vigos_cli.data.images import BadRow


def plain_text(value: Any) -> str:
    """A text or a number as text; None and NaN become an empty text.

    Raises BadRow `not_text` for any other type, for a number that is too large for a float (`1e999`), and
    for half a surrogate pair, which no tokenizer accepts.
    """
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if not isinstance(value, str | int | float) or (isinstance(value, float) and isinf(value)):
        raise BadRow("not_text")
    try:
        text = str(value).strip()
        text.encode()
    except ValueError as error:  # invalid Unicode, or an integer with thousands of digits
        raise BadRow("not_text") from error
    return text
