"""A grammar of mistakes in the rows of benchmarks, whose columns differ.

    for case in item_cases(seed=0, name="mathvista", count=60):
        case.row, case.column, case.value

A mistake is a wrong value in any column. If the row is used, all that the column does not concern must be the
same as in the good row, and a value that is no text must not be shown as one.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

import bench_fixtures as data

from campaign.odd_pictures import pictures
from campaign.value_mistakes import TOKENS
from vigos_cli.evaluation import registry
from vigos_cli.types import Sample

Row = dict[str, Any]
ROWS: dict[str, list[Row]] = {
    **data.ROWS,
    "vlind": data.VLIND,
    "plain": [*data.PLAIN[2:], *data.PLAIN[1:2]],
    "easyvqa": [
        {"question": "what is the red shape?", "answer": "triangle", "image": data.cell("red"), "image_id": 0}
    ],
}
NO_TEXT: tuple[Any, ...] = (
    [],
    ["a", None],
    {},
    {"a": 1},
    b"bytes",
    datetime.date(2026, 1, 2),
    [[1]],
    float("inf"),
    "\ud800",
)
EMPTY: tuple[Any, ...] = (None, "", "  ", float("nan"))
ODD_TEXTS: tuple[Any, ...] = (
    3,
    -1,
    2.5,
    True,
    10**40,
    "a\0b",
    "<image>",
    "<image 1>",
    "<image 7>",
    "<image>" * 5,
    *TOKENS,
    "x" * 1_000_000,
    "(A) x " * 50_000,
    "[" * 5000,
    "['a'",
    "{'a': ",
    "Z",
    "z",
    "(Q)",
    "1e400",
    "None",
    "\u202eabc",
    "a\nb\x1b[31m",
)
OPTIONS: tuple[Any, ...] = (
    [str(i) for i in range(27)],
    [str(i) for i in range(5000)],
    str([str(i) for i in range(3000)]),
    [None, "a"],
    [{"a": 1}, "b"],
    [float("nan"), "b"],
    [b"x", "y"],
    [1, 2],
    ["a", "a"],
    ["\ud800", "b"],
    ["", ""],
    {"A": "x", "C": "y"},
    "['a', 'b'",
    "['a', __import__('os').getcwd()]",
    "(" * 3000,
    {"a": 1},
    5,
    [["a"], ["b"]],
    ["<image 9>", "b"],
)
PRECISIONS: tuple[Any, ...] = (1e300, -5, 10**6, "many", [1], {"a": 1}, float("nan"), float("inf"), True)
MAPPINGS: tuple[Any, ...] = (
    5,
    "{",
    [],
    None,
    {"skills": [1, None, {"a": 1}]},
    {"skills": "a"},
    {"skills": [["a"]]},
    {"task": ["x"]},
    {"0": "3"},
    {"0": None},
    {"../..": 5},
    {"0": [3]},
    {"0": float("nan")},
    ["ocr", None],
    [["ocr"]],
    "ocr,,",
    {"ocr": 1},
)
CONCERNS = (  # a part of the column's name, and the attributes of a sample that it may change
    (("image_id",), {"id", "group"}),
    (("metadata",), {"fields", "family"}),
    (("image", "picture", "filename", "visual_input", "img"), {"images", "question", "options", "fields"}),
    (("choices", "options"), {"options", "fields", "question", "answer"}),
    (("answer", "gold"), {"answer", "fields", "options", "prior", "family", "question"}),
    (
        ("question_type", "type", "task", "subject", "level", "capability", "source", "version"),
        {"fields", "family", "options", "images"},
    ),
    (
        ("question", "problem", "prompt", "statement", "context", "noun", "unit"),
        {"question", "options", "fields", "id", "group", "family", "answer", "images"},
    ),
    (("id", "idx", "index", "category", "set", "figure"), {"id", "group", "family", "fields", "images"}),
)
ANYTHING = (
    "metadata",
    "capability",
    "good_images",
    "precision",
    "options",
    "choices",
    "images",
    "level",
    "unit",
    "image",
)
MAY_BE_EMPTY = {
    "mathvista": ("answer",),
    "mmmu": ("answer", "options"),
    "mathverse": ("answer", "question", "metadata"),
    "mathverse_text_only": ("answer",),
    "mmvet": ("answer",),
    "mmmu_pro": ("options",),
}
LISTS_OF_ANSWERS = ("plain", "mmmu", "mmmu_pro")


@dataclass(frozen=True)
class ItemCase:
    """A row of a benchmark with one wrong value; `value` is MISSING if the column is left out."""

    bench: str
    good: Row
    row: Row
    column: str
    value: Any

    @property
    def name(self) -> str:
        """What was done to the row."""
        text = repr(self.value)
        said = text if len(text) < 60 else f"{text[:40]}... ({len(text)} characters)"
        return f"{self.bench}: {self.column} = {said}".encode("ascii", "backslashreplace").decode()

    def verdict(self, good: list[Sample], found: list[Sample]) -> str:
        """Why it is wrong that these samples are used; empty if it is right."""
        before, after = {s.id: s for s in good}, {s.id: s for s in found}
        named = any(part in self.column for part in ("id", "idx", "index", "category"))
        if before and not named and found and set(after) - set(before) and self.bench not in ("vlind",):
            return f"another id than the row has: {sorted(set(after) - set(before))[:2]}"
        if self._must_not_be_used() and found:
            return "used in spite of it"
        may = next((may for parts, may in CONCERNS if any(part in self.column for part in parts)), set())
        for one, other in ((after[id], before[id]) for id in after if id in before):
            for name in {"question", "answer", "images", "options", "group", "family"} - may:
                a, b = getattr(one, name), getattr(other, name)
                if (len(a) if name == "images" else a) != (len(b) if name == "images" else b):
                    return f"another {name} than the row has"
        return ""

    def _must_not_be_used(self) -> bool:
        if self.column not in registry.get(self.bench).columns or self.value == "MISSING EXTRA":
            return False
        if self.value == MISSING or any(self.value is value or self.value == value for value in EMPTY):
            return self.column not in MAY_BE_EMPTY.get(self.bench, ()) and not self._anything()
        text = self.column == "answer" and self.bench in LISTS_OF_ANSWERS and isinstance(self.value, list)
        return any(self.value is value for value in NO_TEXT) and not self._anything() and not text

    def _anything(self) -> bool:
        return any(part in self.column for part in ANYTHING)


MISSING = "the column is missing"


def item_cases(seed: int, name: str, count: int) -> list[ItemCase]:
    """Rows of a benchmark, each with one mistake; all columns have their turn."""
    rng, made = Random(f"{seed} {name}"), []
    for number in range(count):
        good = deepcopy(rng.choice(ROWS[name]))
        columns = [*good, "more"]
        column = columns[number % len(columns)]
        value = rng.choice(_values(column, rng))
        row = {**good, column: value}
        if isinstance(value, str) and value == MISSING:
            row = {k: v for k, v in good.items() if k != column}
            if rng.random() < 0.5:
                row[column.upper()] = good.get(column)
        made.append(ItemCase(name, good, row, column, value))
    return made


def _values(column: str, rng: Random) -> tuple[Any, ...]:
    """The wrong values for a column."""
    kinds: list[tuple[Any, ...]] = [NO_TEXT, EMPTY, ODD_TEXTS, (MISSING,)]
    if "image" in column and "id" not in column:
        odd = [{"bytes": picture.data, "path": None} for picture in pictures().values() if picture.rules]
        paths = (
            "/etc/passwd",
            "../a.png",
            "/dev/zero",
            "pipe.png",
            "huge.png",
            "http://127.0.0.1:9/a.png",
            {"path": "/etc/passwd"},
        )
        kinds += [tuple(odd), tuple(odd), paths]
    elif column in ("options", "choices"):
        kinds += [OPTIONS] * 4
    elif column == "precision":
        kinds = [PRECISIONS]
    elif column in ("metadata", "capability", "aggregated_human_label_good_images"):
        kinds = [MAPPINGS, MAPPINGS, NO_TEXT]
    return rng.choice(kinds)


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: pictures as base64. Raises TypeError if it cannot."""
    import base64

    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return base64.b64encode(value["bytes"]).decode()
    if isinstance(value, list):
        return [base64.b64encode(one).decode() if isinstance(one, bytes) else as_json(one) for one in value]
    return value
