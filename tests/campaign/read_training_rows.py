"""Read malformed rows as a training run does: lines, an array, parquet files, conversations and folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from campaign.mistakes import GOOD, Case, Row, write_folder
from campaign.row_mistakes import cases
from campaign.watched_rows import Notes, limit_memory
from vigos_cli.config.schema import DataConfig
from vigos_cli.data.check import check, usable_sample
from vigos_cli.data.fingerprint import fingerprint
from vigos_cli.data.holdout import choose_holdout
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import TableData, load_data
from vigos_cli.types import Sample
from vigos_cli.utils.errors import UserError

READERS = ("lines", "array", "conversations", "parquet", "folder")
TABLES = READERS[:3]
WHOLE = "the whole table"
ONE_FILE_EACH = ("parquet", "folder")  # the values of a column have one type, so each case has its own file
EVERY = {"folder": 10, "parquet": 2}  # of so many cases one is read in this way, which takes long


def reads(reader: str, number: int, case: Case) -> bool:
    """Whether a case is read in this way: some rows cannot be written in it."""
    if number % EVERY.get(reader, 1):
        return False
    if isinstance(case.row, bytes):
        return reader == "lines"
    if reader == "conversations" and "problem" in case.row:
        return False
    return reader == "parquet" or _json(case.row) is not None


def all_reads(seed: int, kind: str, count: int) -> list[tuple[str, Case]]:
    """Every case with every way in which it is read."""
    found = cases(seed, kind, count)
    return [(reader, case) for reader in READERS for i, case in enumerate(found) if reads(reader, i, case)]


def read_training_rows(notes: str, start: int, seed: int, kind: str, count: int) -> None:
    """Code of a child: read the cases from number `start` on, and write what became of each."""
    folder = Path("data")
    if not folder.exists():
        write_folder(folder)
    lines, wanted = Notes(notes), all_reads(seed, kind, count)
    limit_memory()
    tables: dict[str, tuple[TableData, dict[int, int]]] = {}
    for number in range(start, len(wanted) + len(TABLES)):
        if number >= len(wanted):
            _whole_table(folder, TABLES[number - len(wanted)], wanted, lines, number)
            continue
        reader, case = wanted[number]
        with lines.measured(number, f"{reader}: {case.name}") as line:
            try:
                if reader in ONE_FILE_EACH:
                    data, place = _own_file(folder, reader, case, number), -1
                else:
                    if reader not in tables:
                        tables[reader] = _table(folder, reader, wanted)
                    data, place = tables[reader][0], tables[reader][1][number]
                line["became"], line["fault"] = _became(data, place % len(data), case, reader)
            except _NotWritten:
                line["became"] = "cannot be written so"
            except UserError as error:
                line["became"], line["fault"] = "refused", _refusal(error, case, reader)
            except Exception as error:
                line["became"], line["fault"] = "an exception", f"{type(error).__name__}: {error}"[:200]


def _whole_table(
    folder: Path, reader: str, wanted: list[tuple[str, Case]], lines: Notes, number: int
) -> None:
    """What a run does with all rows of a table: their fingerprint, the check, and the rows held back."""
    with lines.measured(number, f"{reader}: {WHOLE}", whole=True) as line:
        if not any(one == reader for one, _ in wanted):
            return
        data, _ = _table(folder, reader, wanted)
        fingerprint(data)
        check(data)
        try:
            choose_holdout(data, 20)
            line["became"] = "used"
        except UserError as error:
            line["became"], line["fault"] = "refused", "" if "held back" in str(error) else str(error)
        except Exception as error:
            line["became"], line["fault"] = "an exception", f"{type(error).__name__}: {error}"[:200]


class _NotWritten(Exception):
    """The library that writes the file refuses the row."""


def _json(row: Row) -> str | None:
    try:
        return json.dumps(row)
    except (TypeError, ValueError):
        return None


def _conversation(row: Row) -> Row:
    turns = [
        {"role": "user", "content": row.get("question")},
        {"role": "assistant", "content": row.get("answer")},
    ]
    return {k: v for k, v in row.items() if k not in ("question", "answer")} | {"messages": turns}


def _load(path: Path) -> TableData:
    data = load_data(DataConfig(name="jsonl", path=str(path)), 0)
    assert isinstance(data, TableData)
    return data


def _table(folder: Path, reader: str, wanted: list[tuple[str, Case]]) -> tuple[TableData, dict[int, int]]:
    """One file with a good row and all cases, and the places of the cases in it."""
    places = {number: i for i, number in enumerate((n for n, (r, _) in enumerate(wanted) if r == reader), 1)}
    rows = [GOOD, *(wanted[number][1].row for number in places)]
    if reader == "array":
        (folder / "rows.json").write_text(f"[{','.join(json.dumps(row) for row in rows)}]")
        return _load(folder / "rows.json"), places
    if reader == "conversations":
        rows = [_conversation(row) for row in rows if isinstance(row, dict)]
    written = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path = folder / f"{reader}.jsonl"
    path.write_bytes(b"\n".join(written) + b"\n")
    return _load(path), places


def _own_file(folder: Path, reader: str, case: Case, number: int) -> TableData:
    assert isinstance(case.row, dict)
    if reader == "folder":
        place = folder / f"folder-{number}"
        place.mkdir()
        for name in ("red.png", "blue.png", "odd"):
            (place / name).symlink_to(folder.resolve() / name)
        (place / "train.jsonl").write_text(f"{json.dumps(GOOD)}\n{json.dumps(case.row)}\n")
        return _load(place)
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"rows-{number}.parquet"
    try:
        pq.write_table(pa.Table.from_pylist([case.row]), path)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise _NotWritten from error
    return _load(path)


def _became(data: TableData, place: int, case: Case, reader: str) -> tuple[str, str]:
    counts: dict[str, int] = {}
    try:
        sample = usable_sample(data, place, counts)
    except BadRow as rule:
        became = str(rule)
        if became.startswith(("chat_", "missing_")) and reader == "conversations":
            concerned = {mistake.where for mistake in case.mistakes} & {"question", "answer", "*"}
            return became, "" if concerned else case.verdict(became, {}, {})
        if reader == "parquet" and became in ("not_text", "image_unreadable"):
            return became, ""  # the file's own type of the column may be another one than in JSON
        return became, case.verdict(became, {}, {})
    finally:
        if reader in ONE_FILE_EACH:
            fingerprint(data)
    return "repaired and counted" if counts else "used", case.verdict("used", _seen(sample, place), counts)


def _seen(sample: Sample, place: int) -> dict[str, Any]:
    """The parts of a sample that a case compares; an id that is the number of the row counts as none."""
    shown = [image.convert("RGB") for image in sample.images]
    pictures = [(*image.size, *image.getpixel((0, 0))) for image in shown]  # type: ignore[misc]
    return {
        "question": sample.question,
        "answer": sample.answer,
        "solution": sample.solution,
        "pictures": pictures,
        "id": None if sample.id == str(place) else sample.id,
    }


def _refusal(error: UserError, case: Case, reader: str) -> str:
    """Why the refusal of a file is wrong; empty if it is right."""
    text = str(error)
    if "\n" in text or len(text) > 600:
        return f"refused with more than one line: {text[:80]!r}"
    may = reader in ONE_FILE_EACH  # other types than in the good row, or the only row lacks a column
    return "" if may or case.verdict("refused", {}, {}) == "" else f"refused: {text[:150]}"
