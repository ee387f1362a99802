"""Malformed rows of benchmarks, read by every adapter that takes its rows from files."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import bench_fixtures as data

from campaign.item_mistakes import ROWS, ItemCase, as_json, item_cases
from campaign.malformed_rows import outcome
from campaign.trial import Outcome, Space, Trial
from campaign.watched_rows import Notes, limit_memory, watch
from vigos_cli.data.image_marks import split_at_marks
from vigos_cli.data.images import BadRow, usable
from vigos_cli.evaluation import benchmark_rows, registry
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.types import Sample
from vigos_cli.utils.errors import UserError

ITEMS = "malformed rows of benchmarks"
COUNT = 90  # cases of a benchmark
WAYS = ("rows", "lines", "parquet")  # as a table gives them, as JSON lines, and in a parquet file
ANSWERS = (r"\boxed{A}", "yes", "I do not know.")


def all_reads(seed: int, name: str) -> list[tuple[str, ItemCase]]:
    """Every case with every way in which it is read; the files hold every third case."""
    found = item_cases(seed, name, COUNT)
    return [(way, case) for step, way in zip((1, 3, 3), WAYS, strict=True) for case in found[::step]]


def read_items(notes: str, start: int, seed: int, name: str) -> None:
    """Code of a child: read the cases of a benchmark from number `start` on."""
    folder = Path("data")
    if not folder.exists():
        folder.mkdir()
        os.mkfifo(folder / "pipe.png")
        with (folder / "huge.png").open("wb") as file:
            file.truncate(1 << 40)
        if name == "vlind":
            data.write_vlind(folder)
    bench, lines, wanted = registry.get(name), Notes(notes), all_reads(seed, name)
    root = folder / "VLind-Bench Dataset" if name == "vlind" else folder
    limit_memory()
    for number in range(start, len(wanted)):
        way, case = wanted[number]
        good = list(bench.samples([case.good], RowReader(root)))
        with lines.measured(number, f"{way}: {case.name}") as line:
            try:
                line["became"], line["fault"] = _became(bench, case, way, root, number, good)
            except UserError as error:
                line["became"] = "refused"
                if "\n" in str(error) or len(str(error)) > 700 or not str(error).isprintable():
                    line["fault"] = f"refused with more than one line: {str(error)[:100]!r}"
            except Exception as error:
                line["became"], line["fault"] = "an exception", f"{type(error).__name__}: {error}"[:200]


def _became(
    bench: Bench, case: ItemCase, way: str, root: Path, number: int, good: list[Sample]
) -> tuple[str, str]:
    if way == "rows":
        reader = RowReader(root)
        found = list(bench.samples([case.row], reader))
    else:
        path = _written(case, way, root / f"{number}.{'jsonl' if way == 'lines' else 'parquet'}")
        if path is None:
            return "cannot be written so", ""
        read, reader = benchmark_rows.read_samples(bench, data.task_of(bench.name, path=str(path)))
        found = list(read)
    _used(bench, found)
    if not found:
        rules = "".join(reader.left_out)
        return (
            rules or "left out by design",
            "" if rules or case.bench == "vlind" else "left out without a rule",
        )
    return "used", case.verdict(good, found)


def _written(case: ItemCase, way: str, path: Path) -> Path | None:
    """A file with the row; None if the library that writes it refuses the row."""
    try:
        if way == "lines":
            path.write_text(json.dumps({k: as_json(v) for k, v in case.row.items()}) + "\n")
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist([case.row]), path)
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        return None
    return path


def _used(bench: Bench, found: list[Sample]) -> None:
    """Do with the samples what an evaluation does, and raise if a prompt shows a mark or is no Unicode."""
    graded: list[Graded] = []
    for sample in found:
        try:
            for image in sample.images:
                usable(image, {})
        except BadRow as rule:
            raise UserError(f"item: {rule}") from rule
        prompt = bench.prompt(sample)
        prompt.encode()
        text = "".join(split_at_marks(prompt, sample.places))
        if "<image" in text.replace("<image_soft_token>", "") and sample.images and bench.name == "plain":
            raise AssertionError(f"a mark stays in the prompt: {text[:80]}")
        for wrong in ("None", "nan", "{'", "b'", "datetime"):
            if wrong in text and wrong not in "None['a'{'a': " and bench.name != "plain":
                raise AssertionError(f"the prompt shows {wrong}")
        if len(prompt) < 10_000:
            graded += [
                Graded(sample, 0, bench.grade(sample, answer), response=answer) for answer in ANSWERS[:1]
            ]
            for answer in ANSWERS[1:]:
                bench.grade(sample, answer)
    if graded:
        bench.summarise(graded)
        bench.chance(graded[0].sample)


def _bench(name: str, seed: int, space: Space) -> Outcome:
    wanted = all_reads(seed, name)
    results = watch(read_items, space.folder, len(wanted), seed, name)
    (space.folder / "faults.txt").write_text("\n".join(f"{r.case}: {r.fault}" for r in results if r.fault))
    did = f"{COUNT} rows with a wrong value, from a table, a JSON lines file and a parquet file"
    return outcome(name, did, results, len(wanted))


def trials(seed: int) -> list[Trial]:
    """One trial for each adapter that reads rows from files."""
    named: list[tuple[str, Any]] = [(name, partial(_bench, name, seed)) for name in ROWS]
    return [Trial(f"items: {name}", ITEMS, run) for name, run in named]
