"""Open the rows of a JSON lines file, a JSON array, a parquet file or a Hugging Face data set.

>>> rows, folder = open_rows(DataConfig(name="jsonl", path="data/train.jsonl"))
>>> len(rows), rows[0]["question"]
(47000, 'How many cups are on the table?')

A row is read when it is used, with its pictures as the file has them.
"""

from __future__ import annotations

import glob
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.file_kinds import LINES, READ, refuse_folder_of_pictures, refuse_other_kind
from vigos_cli.data.images import BadRow
from vigos_cli.utils.errors import ConfigError, UserError, nearest, one_line
from vigos_cli.utils.quiet import quieten_tables


class Lines:
    """The rows of a JSON-lines file, each parsed when it is read, or of a JSON array.

    Either may be in a `.json` or in a `.jsonl` file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.array: list[Any] | None = None
        self.fault = ""  # why no row can be read, if that is known
        self.starts: list[int] = []
        start = 0
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    self.starts.append(start)
                start += len(line)
        if self._starts_like_an_array():  # it may also be JSON lines of which the first is a list
            try:
                whole = json.loads(path.read_bytes())
                self.array = whole if isinstance(whole, list) else None
            except (ValueError, RecursionError) as error:
                self.fault = f"it starts with [, but is no JSON array: {one_line(error, 160)}"
        self.names = list(dict.fromkeys(name for row in islice(self._good(), 1000) for name in row))

    def _starts_like_an_array(self) -> bool:
        if not self.starts:
            return False
        with self.path.open("rb") as file:
            file.seek(self.starts[0])
            return file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")

    def _good(self):
        for index in range(len(self)):
            try:
                yield self[index]
            except BadRow:
                continue

    def has(self, column: str) -> bool:
        """Whether any row has a column of this name; reads all rows if the first ones have not."""
        return column in self.names or any(column in row for row in self._good())

    def __len__(self) -> int:
        return len(self.starts if self.array is None else self.array)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.array is not None:
            row = self.array[index]
        else:
            try:
                with self.path.open("rb") as file:
                    file.seek(self.starts[index])
                    text = file.readline()
            except OSError as error:  # the file was there at the start
                raise UserError(f"data.path={self.path}: {error.strerror}, while the run used it") from error
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BadRow("not_json") from error
        if not isinstance(row, dict):
            raise BadRow("not_json")
        return row


class Arrow:
    """The rows of a `datasets` table as stored: pictures stay bytes, so a broken one affects only its row."""

    def __init__(self, table: Any):
        self.names: list[str] = table.column_names
        self.mixed = {name: kind for name, kind in table.features.items() if _has_json(kind)}
        self.table = table.with_format("arrow")

    def has(self, column: str) -> bool:
        """Whether the table has a column of this name."""
        return column in self.names

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.table[index]
        try:
            values = row.to_pylist()[0]
        except (ValueError, OverflowError):  # one of the values has no form in Python
            values = {name: readable(row.column(name)[0]) for name in self.names}
        return values | {name: _from_json(kind, values[name]) for name, kind in self.mixed.items()}


def _has_json(kind: Any) -> bool:
    """Whether `datasets` keeps values of a column as JSON, because they have several types."""
    inside = [*kind.values()] if isinstance(kind, dict) else [getattr(kind, "feature", None)]
    return type(kind).__name__ == "Json" or any(_has_json(one) for one in inside if one is not None)


def _from_json(kind: Any, value: Any) -> Any:
    """A value without this JSON: with it, a question would have quotes around it."""
    if type(kind).__name__ == "Json":
        try:
            return json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            return Unreadable()
    inside = getattr(kind, "feature", None)
    if isinstance(kind, dict) and isinstance(value, dict):
        return {name: _from_json(kind.get(name), one) for name, one in value.items()}
    if inside is not None and isinstance(value, list):
        return [_from_json(inside, one) for one in value]
    return value


class Unreadable:
    """A value of a table that has no form in Python, such as invalid UTF-8 or a date in the year 300000."""


def readable(value: Any) -> Any:
    """A value of an Arrow table in Python's form, or an object that is no text and no picture."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return Unreadable()


def open_rows(config: DataConfig) -> tuple[Lines | Arrow, Path]:
    """The rows of a file, a folder or a hub data set, and the folder that image paths are relative to."""
    if not config.path:
        raise ConfigError(f"data={config.name} needs data.path=, a JSON lines or parquet file")
    path = Path(config.path)
    try:
        if config.name == "jsonl" and not path.exists():
            near = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
            raise ConfigError(f"data.path={path}: there is no such file{near and '; ' + near.strip()}")
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConfigError(f"data.path={path} is a pipe or a device; {READ}")
        if path.is_file():
            refuse_other_kind("data.path", path)
        elif path.is_dir():
            refuse_folder_of_pictures("data.path", path)
        if path.is_file() and path.suffix.lower() in LINES:
            rows, folder = Lines(path), path.parent
        else:
            rows, folder = _arrow(config, path)
    except OSError as error:
        raise UserError(f"data.path={str(path)[:200]}: {error.strerror or error}") from error
    if not rows.names or not len(rows):
        raise ConfigError(f"data.path={path}: {getattr(rows, 'fault', '') or 'the data set has no rows'}")
    return rows, folder


def _arrow(config: DataConfig, path: Path) -> tuple[Arrow, Path]:
    import datasets
    from datasets.config import HF_CACHE_HOME
    from datasets.exceptions import DatasetsError

    quieten_tables()
    try:
        if path.is_file():
            refuse_empty_table("data.path", path)
            table = datasets.load_dataset("parquet", data_files=glob.escape(str(path)), split="train")
            return Arrow(table), path.parent
        table = datasets.load_dataset(str(config.path), split=config.split, revision=config.revision)
        return Arrow(table), path if path.is_dir() else Path(HF_CACHE_HOME)
    except (OSError, ConnectionError, ValueError, DatasetsError) as error:
        hint = (
            ""
            if path.exists()
            else "; download it on a machine with a network, or use data=jsonl with a local file"
        )
        raise UserError(
            f"the data set {config.path} could not be read: {table_fault(error)}{hint}"
        ) from error


def table_fault(error: BaseException) -> str:
    """Why a table could not be read, on one line: the first cause, which says more than the last error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error, 160)


def refuse_empty_table(key: str, path: Path) -> None:
    """Raise ConfigError for a parquet file without rows, which `datasets` cannot read."""
    import pyarrow.parquet as parquet

    try:
        rows = parquet.read_metadata(path).num_rows
    except (OSError, ValueError):  # a damaged file: `datasets` says what is wrong with it
        return
    if not rows:
        raise ConfigError(f"{key}={path}: the data set has no rows")
