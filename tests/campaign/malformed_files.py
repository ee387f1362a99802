"""Files of rows that are damaged as a whole, read as data for training and as a benchmark."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_fixtures as data

from campaign.malformed_rows import outcome
from campaign.mistakes import GOOD
from campaign.odd_pictures import plain, saved
from campaign.trial import Outcome, Space, Trial
from campaign.watched_rows import Notes, limit_memory, watch
from vigos_cli.config.schema import DataConfig
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import load_data
from vigos_cli.evaluation import benchmark_rows, registry
from vigos_cli.utils.errors import UserError

FILES = "damaged files of rows"
LINE = json.dumps(GOOD).encode()
Make = Callable[[Path], Path]


def _file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _table(name: str, change: Callable[[Any], Any], cut: Callable[[bytes], bytes] = bytes) -> Make:
    """A parquet file of a good row after a change of the table, or of the bytes of the file."""

    def make(folder: Path) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(change(pa.Table.from_pylist([{**GOOD, "images": "red.png"}])), folder / name)
        (folder / name).write_bytes(cut((folder / name).read_bytes()))
        return folder / name

    return make


def _with_column(values: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import pyarrow as pa

    return lambda table: table.append_column("more", values(pa))


def _dates() -> Any:
    import pyarrow as pa

    return pa.array([0], "date32")


def _invalid_utf8(_: Any = None) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")]
    )


def _place(make: Callable[[Path], object]) -> Make:
    """A path that `make` creates."""

    def made(folder: Path) -> Path:
        make(folder / "place.jsonl")
        return folder / "place.jsonl"

    return made


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("rows.jsonl", LINE)
    return file.getvalue()


def tables() -> dict[str, tuple[Make, str]]:
    """Parquet files; see `files`."""
    keep: Callable[[Any], Any] = lambda table: table  # noqa: E731
    return {
        "parquet in .jsonl": (_table("a.jsonl", keep), "refused"),
        "parquet": (_table("a.parquet", keep), "1 0"),
        "half a parquet file": (_table("a.parquet", keep, lambda b: b[: len(b) // 2]), "refused"),
        "parquet without its end": (_table("a.parquet", keep, lambda b: b[:-1]), "refused"),
        "parquet, damaged pages": (
            _table("a.parquet", keep, lambda b: b[:30] + b"\xff" * 30 + b[60:]),
            "refused",
        ),
        "parquet without rows": (_table("a.parquet", lambda table: table.slice(0, 0)), "refused"),
        "parquet, a column twice": (
            _table("a.parquet", lambda table: table.append_column("answer", table["id"])),
            "refused",
        ),
        "parquet, damaged metadata": (
            _table("a.parquet", lambda table: table.replace_schema_metadata({"huggingface": "{"})),
            "refused",
        ),
        "parquet, a date in the year 1143707": (
            _table("a.parquet", _with_column(lambda pa: pa.array([2**55], pa.timestamp("ms")))),
            "1 0",
        ),
        "parquet, nanoseconds": (
            _table("a.parquet", _with_column(lambda pa: pa.array([1], pa.timestamp("ns")))),
            "1 0",
        ),
        "parquet, invalid UTF-8 beside": (_table("a.parquet", _with_column(_invalid_utf8)), "1 0"),
        "parquet, invalid UTF-8 as question": (
            _table("a.parquet", lambda table: table.set_column(1, "question", _invalid_utf8())),
            "0 1",
        ),
        "parquet, a date as question": (
            _table("a.parquet", lambda table: table.set_column(1, "question", _dates())),
            "0 1",
        ),
    }


def files() -> dict[str, tuple[Make, str]]:
    """By name: how the file is made; and `refused`, or the number of good and of bad rows that it has."""
    two = LINE + b"\n" + LINE
    array = json.dumps([GOOD, GOOD]).encode()
    sheet = b'id,question,answer,images\n1,"How many\ncups, ""now""?",4,red.png\n'
    return {
        "half a line at the end": (_file("a.jsonl", two + b"\n" + LINE[:50]), "2 1"),
        "a line feed is missing": (_file("a.jsonl", two), "2 0"),
        "blank lines": (_file("a.jsonl", b"\n \n\r\n" + LINE + b"\n\t\n" + LINE + b"\n\n"), "2 0"),
        "CRLF": (_file("a.jsonl", LINE + b"\r\n" + LINE + b"\r\n"), "2 0"),
        "only CR": (_file("a.jsonl", LINE + b"\r" + LINE), "refused"),
        "a BOM at the start": (_file("a.jsonl", b"\xef\xbb\xbf" + two), "2 0"),
        "an array in .json": (_file("a.json", array), "2 0"),
        "an array in .jsonl": (_file("a.jsonl", array), "2 0"),
        "an array with other things": (_file("a.json", json.dumps([GOOD, 3, None, [GOOD]]).encode()), "1 3"),
        "half an array": (_file("a.json", array[:-9]), "refused"),
        "half an array over lines": (
            _file("a.json", json.dumps([GOOD] * 3, indent=1).encode()[:-9]),
            "refused",
        ),
        "lines in .json": (_file("a.json", two), "2 0"),
        "an object of rows": (_file("a.json", json.dumps({"a": GOOD, "b": GOOD}).encode()), "refused"),
        "an empty file": (_file("a.jsonl", b""), "refused"),
        "an empty .json": (_file("a.json", b""), "refused"),
        "an empty array": (_file("a.json", b"[]"), "refused"),
        "only blank lines": (_file("a.jsonl", b"\n\n \n"), "refused"),
        "words": (_file("a.jsonl", b"These are words.\n"), "refused"),
        "a web page": (_file("a.jsonl", b"<!DOCTYPE html><html></html>\n"), "refused"),
        "UTF-16": (_file("a.jsonl", two.decode().encode("utf-16")), "refused"),
        "UTF-16 without a BOM": (_file("a.jsonl", two.decode().encode("utf-16-le")), "refused"),
        "UTF-16 the other way": (_file("a.jsonl", two.decode().encode("utf-16-be")), "refused"),
        "UTF-32": (_file("a.jsonl", two.decode().encode("utf-32")), "refused"),
        "zeros": (_file("a.jsonl", b"\0" * 5000), "refused"),
        "CSV with line breaks": (_file("a.csv", sheet), "refused"),
        "CSV in .jsonl": (_file("a.jsonl", sheet), "refused"),
        "TSV": (_file("a.tsv", sheet.replace(b",", b"\t")), "refused"),
        "gzip": (_file("a.jsonl.gz", gzip.compress(two)), "refused"),
        "gzip in .jsonl": (_file("a.jsonl", gzip.compress(two)), "refused"),
        "half a gzip file": (_file("a.jsonl.gz", gzip.compress(two)[:-9]), "refused"),
        "zip": (_file("a.zip", _zip()), "refused"),
        "zip in .jsonl": (_file("a.jsonl", _zip()), "refused"),
        "no zip in .zip": (_file("a.zip", b"no zip"), "refused"),
        "a picture": (_file("a.jsonl", saved(plain())), "refused"),
        "no parquet in .parquet": (_file("a.parquet", two), "refused"),
        **tables(),
        "a pipe": (_place(os.mkfifo), "refused"),
        "a link to /dev/zero": (_place(lambda path: path.symlink_to("/dev/zero")), "refused"),
        "a link to itself": (_place(lambda path: path.symlink_to(path)), "refused"),
        "a link to nowhere": (_place(lambda path: path.symlink_to("/nowhere")), "refused"),
        "an empty folder": (_place(lambda path: path.mkdir()), "refused"),
        "a name of 5,000 characters": (lambda folder: folder / ("x" * 5000 + ".jsonl"), "refused"),
        "a name with a NUL": (lambda folder: folder / "a\0b.jsonl", "refused"),
        "no such file": (lambda folder: folder / "nowhere.jsonl", "refused"),
    }


def read_files(notes: str, start: int) -> None:
    """Code of a child: read every file as data for training, and then as a benchmark."""
    lines, wanted = Notes(notes), [(use, *one) for use in ("data", "bench") for one in files().items()]
    limit_memory()
    for number in range(start, len(wanted)):
        use, name, (make, expected) = wanted[number]
        folder = Path(f"{number}")
        folder.mkdir()
        (folder / "red.png").write_bytes(saved(plain()))
        path = make(folder)
        with lines.measured(number, f"{use}: {name}") as line:
            try:
                line["became"] = _rows(path) if use == "data" else _items(path)
                if line["became"] != expected and not (
                    use == "bench" and _other_in_a_benchmark(name, line["became"])
                ):
                    line["fault"] = f"good and bad rows: {line['became']}, expected {expected}"
            except UserError as error:
                line["became"], text = "refused", str(error)
                if expected != "refused" and not (use == "bench" and expected[0] == "0"):
                    line["fault"] = f"refused: {text[:150]}"
                if "\n" in text or len(text) > 600:
                    line["fault"] = f"refused with more than one line: {text[:100]!r}"
            except Exception as error:
                line["became"], line["fault"] = "an exception", f"{type(error).__name__}: {error}"[:200]


def _other_in_a_benchmark(name: str, became: str) -> bool:
    """A benchmark may be one object of rows; its ids must differ, and a file without columns has no rows."""
    return name == "an object of rows" and became == "2 0"


def _rows(path: Path) -> str:
    rows = load_data(DataConfig(name="jsonl", path=str(path)), 0)
    good = 0
    for index in range(len(rows)):
        try:
            good += rows[index].answer == "4" and len(rows[index].images) == 1
        except BadRow:
            continue
    return f"{good} {len(rows) - good}"


def _items(path: Path) -> str:
    """As `_rows`; the good rows of these files have the same id, so the first one is read alone."""
    bench = registry.get("plain")
    rows, reader = benchmark_rows.open_rows(bench, data.task_of("plain", path=str(path)))
    good = sum(
        1 for sample in bench.samples(rows, reader) if sample.answer == "4" and len(sample.images) == 1
    )
    return f"{good} {len(rows) - good}"


def _files(space: Space) -> Outcome:
    results = watch(read_files, space.folder, 2 * len(files()))
    return outcome(
        "whole files",
        f"{len(files())} damaged files as data.path and as bench.path",
        results,
        2 * len(files()),
    )


def trials(seed: int) -> list[Trial]:
    """Damaged files; they do not depend on the seed."""
    return [Trial("damaged files", FILES, _files)]
