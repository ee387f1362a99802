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
from vigos_cli.data.file_kinds import LINES, refuse_folder_of_pictures, refuse_other_kind
from vigos_cli.data.images import BadRow
from vigos_cli.utils.errors import ConfigError, UserError, nearest, one_line


class Lines:
    """The rows of a JSON-lines file, each parsed when it is read, or of a JSON array."""

    def __init__(self, path: Path):
        self.path = path
        self.array: list[Any] | None = None
        self.starts: list[int] = []
        start = 0
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    self.starts.append(start)
                start += len(line)
        if path.suffix.lower() == ".json":  # an array, or JSON lines in spite of the name
            try:
                whole = json.loads(path.read_bytes())
                self.array = whole if isinstance(whole, list) else None
            except (ValueError, RecursionError):
                pass
        self.names = list(dict.fromkeys(name for row in islice(self._good(), 1000) for name in row))

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
            with self.path.open("rb") as file:
                file.seek(self.starts[index])
                try:
                    row = json.loads(file.readline())
                except (ValueError, RecursionError) as error:
                    raise BadRow("not_json") from error
        if not isinstance(row, dict):
            raise BadRow("not_json")
        return row


class Arrow:
    """The rows of a `datasets` table as stored: pictures stay bytes, so a broken one affects only its row."""

    def __init__(self, table: Any):
        self.names: list[str] = table.column_names
        self.table = table.with_format("arrow")

    def has(self, column: str) -> bool:
        """Whether the table has a column of this name."""
        return column in self.names

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.table[index].to_pylist()[0]


def open_rows(config: DataConfig) -> tuple[Lines | Arrow, Path]:
    """The rows of a file, a folder or a hub data set, and the folder that image paths are relative to."""
    if not config.path:
        raise ConfigError(f"data={config.name} needs data.path=, a JSON lines or parquet file")
    path = Path(config.path)
    if config.name == "jsonl" and not path.exists():
        near = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
        raise ConfigError(f"data.path={path}: there is no such file{near and '; ' + near.strip()}")
    try:
        if path.is_file():
            refuse_other_kind("data.path", path)
        elif path.is_dir():
            refuse_folder_of_pictures("data.path", path)
        if path.is_file() and path.suffix.lower() in LINES:
            rows, folder = Lines(path), path.parent
        else:
            rows, folder = _arrow(config, path)
    except OSError as error:
        raise UserError(f"data.path={path}: {error.strerror or error}") from error
    if not rows.names or not len(rows):
        raise ConfigError(f"data.path={path}: the data set has no rows")
    return rows, folder


def _arrow(config: DataConfig, path: Path) -> tuple[Arrow, Path]:
    import datasets
    from datasets.config import HF_CACHE_HOME
    from datasets.exceptions import DatasetsError

    try:
        if path.is_file():
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
            f"the data set {config.path} could not be read: {one_line(error, 160)}{hint}"
        ) from error
