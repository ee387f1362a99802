"""Check before a run which rows of its data set can be used.

    >>> report = check(data)
    >>> report.faults                       # rule -> rows that break it; they are left out of every batch
    {'missing_answer': [4], 'image_not_found': [17, 230]}

Two rules are added to those of `vigos_cli.data.load` and `vigos_cli.data.images`: `missing_answer`, and
`missing_image` for a row without pictures. With `data.text_only=keep` such rows are used, and counted as
`text_only`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from vigos_cli.data.columns import usable_columns
from vigos_cli.data.images import BadRow, usable
from vigos_cli.types import Sample
from vigos_cli.utils import rng
from vigos_cli.utils.errors import UserError

SECONDS = 30.0  # time limit of the check; the remaining rows are checked when they are used
NAMED = 5  # row numbers that the report lists for each rule


def usable_sample(
    data: Sequence[Sample], index: int, counts: dict[str, int], *, text_only: bool = False
) -> Sample:
    """The row as a sample with a reference and usable pictures; with `text_only` also without pictures.

    Repairs are counted in `counts`. Raises BadRow if the row cannot be used.
    """
    sample = data[index]
    if not sample.answer.strip():
        raise BadRow("missing_answer")
    if not sample.images:
        if not text_only:
            raise BadRow("missing_image")
        counts["text_only"] = counts.get("text_only", 0) + 1
    images = tuple(usable(image, counts) for image in sample.images)
    return replace(sample, images=images, fields=usable_columns(sample, counts))


@dataclass(frozen=True, slots=True)
class DataReport:
    """The result of checking a data set."""

    rows: int
    checked: int
    faults: dict[str, list[int]]  # rule -> indices of the rows that cannot be used
    repairs: dict[str, int]  # rule -> pictures that were changed to be usable, and rows without pictures
    repeated_ids: int  # rows that share their id with another row; they are used

    def lines(self) -> list[str]:
        """The report as lines for the terminal; empty if there is nothing to report."""
        bad = sum(map(len, self.faults.values()))
        lines = []
        if bad:
            lines.append(f"data: {bad} of {self.checked} rows cannot be used and are left out")
        for rule, rows in sorted(self.faults.items(), key=lambda item: -len(item[1])):
            more = ", ..." if len(rows) > NAMED else ""
            lines.append(f"  {rule} {len(rows)}: row {', '.join(map(str, sorted(rows)[:NAMED]))}{more}")
        lines += [f"data: {name} {n}" for name, n in sorted(self.repairs.items())]
        if self.repeated_ids:
            lines.append(f"data: {self.repeated_ids} rows share their id with another row")
        if self.checked < self.rows:
            lines.append(
                f"data: checked a random {self.checked} of {self.rows} rows; "
                "the others are checked when they are used"
            )
        return lines

    def summary(self) -> dict[str, Any]:
        """The report for `summary.json`."""
        return {
            "rows": self.rows,
            "checked": self.checked,
            "faults": {rule: len(rows) for rule, rows in sorted(self.faults.items())},
            "repairs": self.repairs,
            "repeated_ids": self.repeated_ids,
        }


def check(data: Sequence[Sample], seconds: float = SECONDS, *, text_only: bool = False) -> DataReport:
    """Read all rows with their pictures, in random order and for at most `seconds`.

    With `text_only` rows without pictures can be used.

    Raises UserError if none of the rows can be used.
    """
    faults: dict[str, list[int]] = {}
    repairs: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    deadline, checked = time.monotonic() + seconds, 0

    def look(index: int) -> tuple[int, str, dict[str, int], str | None]:
        counts: dict[str, int] = {}
        try:
            return index, "", counts, usable_sample(data, index, counts, text_only=text_only).id
        except BadRow as rule:
            return index, str(rule), {}, None

    order = [int(i) for i in rng.permutation("check", count=len(data))]
    at_once = 4 * (os.cpu_count() or 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(order), at_once):
            for index, rule, counts, id in pool.map(look, order[start : start + at_once]):
                checked += 1
                if rule:
                    faults.setdefault(rule, []).append(index)
                else:
                    repairs.update(counts)
                    ids[str(id)] += 1
            if time.monotonic() > deadline:
                break
    repeated = sum(n for n in ids.values() if n > 1)
    report = DataReport(len(data), checked, faults, dict(repairs), repeated)
    if not ids:
        raise UserError("data: no row can be used\n" + "\n".join(report.lines()[1:]))
    return report
