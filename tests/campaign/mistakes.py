"""One mistake in a row for training, and the judgement of what came back.

Each mistake says what may come back: the names of rules by which the row may be left out (`rules`), and the
values with which it may be used (`used`: those that differ from the good row; None: it must not be used).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign.odd_pictures import RED, pictures, plain, saved

Row = dict[str, Any]
GOOD: Row = {
    "id": "row-1",
    "question": "How many cups are on the table?",
    "answer": "4",
    "images": ["red.png"],
    "solution": "2 and 2 make 4.",
}
AS_IT_IS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in the column `where`; see the module docstring."""

    name: str
    where: str
    make: Callable[[Row], Row | bytes]
    rules: tuple[str, ...] = ()
    used: Mapping[str, Any] | None = None
    counts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A malformed row with its mistakes."""

    mistakes: tuple[Mistake, ...]
    row: Row | bytes = field(repr=False)

    @property
    def name(self) -> str:
        """What was done to the row."""
        return " and ".join(mistake.name for mistake in self.mistakes)

    def verdict(self, became: str, sample: Mapping[str, Any], counts: Mapping[str, int]) -> str:
        """Why what came back is wrong; empty if it is right. `became` is `used` or the name of a rule."""
        rules = {rule for mistake in self.mistakes for rule in mistake.rules}
        if became != "used":
            return (
                ""
                if became in rules
                else f"left out as {became}, but allowed is {sorted(rules) or 'its use'}"
            )
        expected: dict[str, Any] = {
            "question": GOOD["question"], "answer": "4", "id": "row-1", "solution": GOOD["solution"],
            "pictures": [(40, 40, *RED)],
        }  # fmt: skip
        for mistake in self.mistakes:
            if mistake.used is None:
                return f"used in spite of: {mistake.name}"
            expected |= mistake.used
            if any(not counts.get(name) for name in mistake.counts):
                return f"repaired without a count: {mistake.name}"
        wrong = [
            name for name, value in expected.items() if name in sample and not _same(sample[name], value)
        ]
        return f"another {' and '.join(wrong)} than the row has" if wrong else ""


def _same(found: Any, expected: Any) -> bool:
    if not isinstance(expected, list):
        return found == expected
    return len(found) == len(expected) and all(
        one[:2] == other[:2] and max(abs(a - b) for a, b in zip(one[2:], other[2:], strict=True)) < 12
        for one, other in zip(found, expected, strict=True)
    )


def write_folder(folder: Path) -> None:
    """Write the folder of the data with all pictures, links, a pipe, and files outside of it."""
    (folder / "odd").mkdir(parents=True)
    (folder / "red.png").write_bytes(saved(plain()))
    (folder / "blue.png").write_bytes(saved(plain(colour="blue")))
    (folder.parent / "secret.png").write_bytes(saved(plain(colour="blue")))
    for name, picture in pictures().items():
        (folder / "odd" / name).write_bytes(picture.data)
    for name, target in {"zero.png": "/dev/zero", "loop.png": "loop.png", "gone.png": "nowhere.png"}.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    with (folder / "huge.png").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: it takes no room on the disk


def put(where: str, value: Any) -> Callable[[Row], Row | bytes]:
    """Replace a value of the row."""
    return lambda row: {**row, where: value}


def values(name: str, where: str, found: list[Any], *rules: str, used: Any = None) -> list[Mistake]:
    """The same mistake with several values."""
    return [Mistake(f"{where}: {name} {short(one)}", where, put(where, one), rules, used) for one in found]


def short(value: Any) -> str:
    return (
        (text if len(text := repr(value)) < 40 else f"{text[:30]}... ({len(text)} characters)")
        .encode("ascii", "backslashreplace")
        .decode()
    )
