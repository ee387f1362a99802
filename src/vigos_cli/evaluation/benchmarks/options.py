"""Read the options of a question from the columns of a row.

>>> read_options({"options": "(A) red (B) blue"})
['red', 'blue']
>>> read_options({"choices": {"A": "red", "B": "blue"}})
['red', 'blue']
>>> read_options({"A": "red", "B": "blue", "C": None})
['red', 'blue']

The column `options` or `choices` holds a list, a list written as text, a dict of letters, or one text with
labelled options or one option on each line. Without it the columns A, B, ... hold one option each.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.row_parsing import list_field
from vigos_cli.evaluation.row_reader import Row
from vigos_cli.grading.question_options import inlined, letter

LETTERS = [letter(i) for i in range(26)]
LABELLED = re.compile(r"\(?([A-Z])[.:)]\s*(.+)", re.DOTALL)


def read_options(row: Row) -> list[str]:
    """The options of a row without their labels; none without options. Raises BadRow `options_unreadable`."""
    value = next((row[name] for name in ("options", "choices") if not _empty(row.get(name))), None)
    if value is None:
        options = _of_letters({name: row.get(name) for name in LETTERS})
        return options if len(options) > 1 else []
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, Mapping):
        if set(value) - set(LETTERS):
            raise BadRow("options_unreadable")
        value = _of_letters(value)
    return _without_labels(list_field(value))


def _empty(value: Any) -> bool:
    """Whether a cell has no value: None, NaN, or an empty text, list or dict."""
    return value is None or value != value or (hasattr(value, "__len__") and not len(value))


def _of_letters(options: Mapping[str, Any]) -> list[str]:
    """The options of A, B, ... up to the first letter without one."""
    there = takewhile(lambda name: not _empty(options.get(name)), LETTERS)
    found = [str(options[name]).strip() for name in there]
    if len(found) != sum(not _empty(options.get(name)) for name in LETTERS) and len(found) > 1:
        raise BadRow("options_unreadable")  # a letter is missing between two others
    return found


def _from_text(text: str) -> Any:
    """The options in a text: JSON, a Python literal, labelled options, or one option on each line."""
    if text[:1] in ("[", "{"):
        for parse in (json.loads, ast.literal_eval):  # both accept only literals and run no code
            try:
                return parse(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    if options := inlined(text):
        return list(options)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        raise BadRow("options_unreadable")
    return lines


def _without_labels(options: list[str]) -> list[str]:
    """The options without `(A)`, `B.` and so on, if all of them have their label."""
    found = [LABELLED.fullmatch(option) for option in options]
    if all(match and match[1] == name for match, name in zip(found, LETTERS, strict=False)):
        return [match[2].strip() for match in found if match]
    return options
