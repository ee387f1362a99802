"""Malformed rows for training: every kind of mistake, read in every way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from campaign.read_training_rows import TABLES, WHOLE, all_reads, read_training_rows
from campaign.row_mistakes import KINDS
from campaign.trial import Outcome, Space, Trial
from campaign.watched_rows import Result, watch

ROWS = "malformed rows for training"
COUNTS = {"long texts": 36, "pictures": 110, "pictures in the row": 110}  # of cases of a kind; else 100


def outcome(kind: str, did: str, results: Sequence[Result], expected: int) -> Outcome:
    """The outcome of a trial of many rows."""
    became = Counter(result.became for result in results)
    faults = [f"{result.case}: {result.fault}" for result in results if result.fault]
    rows = [result for result in results if not result.case.endswith(WHOLE)]
    most = max((result.seconds for result in rows), default=0.0)
    size = max((result.megabytes for result in rows), default=0)
    parts = ", ".join(f"{name} {n}" for name, n in became.most_common() if name)
    said = f"{parts}; at most {most:.2f} s and {size} MB a row"
    if len(results) < expected:
        faults.append(f"only {len(results)} of {expected} rows were read")
    if faults:
        said = f"{len(faults)} faults, such as {'; '.join(faults[:3])} ({said})"
    return Outcome(not faults, kind, did, said, len(results))


def _kind(kind: str, seed: int, space: Space) -> Outcome:
    count = COUNTS.get(kind, 100)
    wanted = all_reads(seed, kind, count)
    expected = len(wanted) + len(TABLES)
    results = watch(read_training_rows, space.folder, expected, seed, kind, count)
    (space.folder / "faults.txt").write_text("\n".join(f"{r.case}: {r.fault}" for r in results if r.fault))
    return outcome(
        kind, f"{count} rows, read as lines, array, conversations, parquet and folder", results, expected
    )


def trials(seed: int) -> list[Trial]:
    """One trial for each kind of mistake."""
    kinds: list[tuple[str, Callable[[Space], Outcome]]] = [
        (kind, partial(_kind, kind, seed)) for kind in KINDS
    ]
    return [Trial(f"rows: {kind}", ROWS, run) for kind, run in kinds]
