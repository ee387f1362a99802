"""Compare training rows with the benchmarks of the run, and leave out those that match.

    data, overlap = without_benchmark_rows(out, data, config)     # at the start of `vigos distill`

    contamination.jsonl   one line for each match: row, its id, benchmark, item, kind, distance in bits
    contamination.json    the numbers; a resumed run reads them here, together with the rows that are left out

The kinds of a match are those of `vigos_cli.data.contamination`. With `data.decontaminate=true` all rows are
compared, otherwise only those that the run uses. Nothing is compared where nothing can match: PriorWorld, as
training data or as benchmark, is drawn for this program. A benchmark that cannot be read is named with the
reason, and the run continues; it stops only if `data.decontaminate=true` asks for its rows to be left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from vigos_cli.config.run_digest import hashed
from vigos_cli.config.schema import BenchTask, DistillRun
from vigos_cli.config.supervision_terms import trains
from vigos_cli.data.contamination import (
    KINDS,
    KeptRows,
    Marks,
    Match,
    in_threads,
    matches,
    sample_marks,
    strongest_kinds,
    table_marks,
)
from vigos_cli.data.holdout import Holdout
from vigos_cli.data.load import TableData
from vigos_cli.data.picture_hash import HashCache
from vigos_cli.evaluation import registry
from vigos_cli.evaluation.benchmark_rows import open_rows
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.training_evaluation import measured_tasks
from vigos_cli.supervision.batches import rows_of_steps
from vigos_cli.training.schedule import total_steps
from vigos_cli.types import Sample
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError, one_line
from vigos_cli.utils.files import write_json, write_lines

NUMBERS, MATCHES, CACHE = "contamination.json", "contamination.jsonl", "picture_hashes.jsonl"
LEFT_OUT = ("both", "picture", "question")  # kinds of matches that data.decontaminate=true leaves out


def without_benchmark_rows(
    out: Path, data: Sequence[Sample], config: DistillRun, held: Holdout | None = None
) -> tuple[Sequence[Sample], dict[str, Any] | None]:
    """The rows to train on, and the numbers for `summary.json`; None if nothing can be compared.

    The rows that are held back are neither trained on nor compared, except as items of the benchmark holdout.
    All processes of a run call it; the first one compares. Raises UserError if rows must be left out but a
    benchmark cannot be read, or if no row remains.
    """
    tasks = {name: task for name, task in measured_tasks(config).items() if name != "priorworld"}
    own = held.left_out if held else ()
    if not isinstance(data, TableData) or not tasks or not trains(config.routing):
        return KeptRows(data, own) if own else data, None
    report = _report(out, data, tasks, config, held) if process_group.rank() == 0 else None
    numbers, left_out = process_group.gather(report)[0] or ({}, [])
    left_out = [*own, *left_out]
    if len(left_out) == len(data):
        raise UserError("data.decontaminate=true: all training rows match an item of the benchmark")
    return KeptRows(data, left_out) if left_out else data, numbers


def _report(
    out: Path, data: TableData, tasks: dict[str, BenchTask], config: DistillRun, held: Holdout | None
) -> tuple[dict[str, Any], list[int]]:
    """The numbers and the rows to leave out: read from the run's folder, or made and written there."""
    rows = KeptRows(data, held.left_out if held else ()).indices
    if not config.data.decontaminate:
        rows = [rows[i] for i in rows_of_steps(config, len(rows), total_steps(config, len(rows)))]
    named = {name: asdict(task) for name, task in tasks.items()}
    key = hashed([asdict(config.data), named, list(rows)])
    file = out / NUMBERS
    saved = json.loads(file.read_text()) if file.exists() else {}
    if saved.get("key") != key:  # a folder without config.json may come from a run with other settings
        saved = {"key": key, **_compared(out, data, rows, tasks, config.data.decontaminate, held)}
        write_json(file, saved)  # last: a folder without it is compared again
        (out / CACHE).unlink(missing_ok=True)
    numbers = {name: value for name, value in saved.items() if name not in ("key", "left_out")}
    print("\n".join(lines(numbers)))
    return numbers, saved["left_out"]


def _compared(
    out: Path,
    data: TableData,
    rows: Sequence[int],
    tasks: dict[str, BenchTask],
    decontaminate: bool,
    held: Holdout | None,
) -> dict[str, Any]:
    """Compare rows of the data with all benchmarks that can be read, and write the matches."""
    items, skipped, pictures = {}, {}, {}
    for name, task in tasks.items():
        if name == "holdout":
            assert held
            items[name], pictures[name] = _held_marks(held)
            continue
        try:
            items[name], pictures[name] = item_marks(registry.get(name), task)
        except UserError as error:
            skipped[name] = one_line(error, 600)
            if decontaminate:
                raise UserError(
                    f"data.decontaminate=true, but {name} cannot be compared with the training rows: {error}"
                ) from error
    found: dict[str, list[Match]] = {}
    with closing(HashCache(out / CACHE)) as cache:
        if items:
            ours, pictures["training rows"] = table_marks(data, rows, cache)
            found = {name: matches(ours, marks) for name, marks in items.items()}
    write_lines(
        out / MATCHES, [{"benchmark": name} | asdict(match) for name, some in found.items() for match in some]
    )
    kinds = strongest_kinds(match for some in found.values() for match in some)
    left_out = sorted(row for row, kind in kinds.items() if kind in LEFT_OUT) if decontaminate else []
    return {
        "rows": len(rows),  # compared: all if rows may be left out, otherwise those that the run uses
        "matching_rows": _counted(kinds),
        "benchmarks": {
            name: {"items": len(marks), "matching_rows": _counted(strongest_kinds(found[name]))}
            for name, marks in items.items()
        },
        "not_compared": skipped,
        "pictures": {name: dict(counts) for name, counts in pictures.items()},
        "rows_left_out": len(left_out),
        "left_out": left_out,
    }


def _held_marks(held: Holdout) -> tuple[list[Marks], Counter[str]]:
    """The marks of the rows that are asked, and counts of their pictures."""
    counts: Counter[str] = Counter()
    asked = zip(held.rows, held.samples(), strict=False)
    return [sample_marks(one.row, sample, counts) for one, sample in asked], counts


def _counted(kinds: dict[int, str]) -> dict[str, int]:
    counts = Counter(kinds.values())
    return {kind: counts[kind] for kind in KINDS}


def item_marks(bench: Bench, task: BenchTask) -> tuple[list[Marks], Counter[str]]:
    """The marks of the items of a benchmark, with progress, and counts of their pictures.

    An item whose picture cannot be read is counted. Raises UserError if the benchmark cannot be read.
    """
    rows, reader = open_rows(bench, task)

    def read(index: int) -> tuple[list[Marks], Counter[str]]:
        counts: Counter[str] = Counter()
        samples = bench.samples(rows, replace(reader, left_out={}), [index])
        try:
            return [sample_marks(index, sample, counts) for sample in samples], counts
        except UserError:
            return [], Counter(unreadable=1)

    counts: Counter[str] = Counter()

    def each() -> Iterator[Marks]:
        size = min(len(rows), task.limit or len(rows))
        for marks, own in in_threads(read, size, f"compare: {bench.name}"):
            counts.update(own)
            yield from marks

    return list(islice(each(), task.limit)), counts


def lines(numbers: dict[str, Any]) -> list[str]:
    """The numbers as lines for the terminal."""
    said = []
    if names := ", ".join(numbers["benchmarks"]):
        rows, left = numbers["matching_rows"], numbers["rows_left_out"]
        same = sum(rows[kind] for kind in LEFT_OUT)
        line = f"contamination: {same} of {numbers['rows']} training rows are also in {names}"
        if same:
            line += (
                f" (picture and question {rows['both']}, only the picture {rows['picture']}, "
                f"question without picture {rows['question']})"
            )
            line += f"; {left} rows are left out" if left else "; data.decontaminate=true leaves them out"
        if rows["look_alike"]:
            line += f"; pictures that look alike, often by chance: {rows['look_alike']} rows"
        said.append(line + (f"; see {MATCHES}" if same or rows["look_alike"] else ""))
    said += [
        f"contamination: {name} was not compared with the training rows: {why}"
        for name, why in numbers["not_compared"].items()
    ]
    return said
