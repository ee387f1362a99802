"""Load the training samples of a run: PriorWorld, a file, or a Hugging Face data set.

Files are JSON lines, a JSON array or parquet. Rows and pictures are read when they are used. Reading a row
that cannot be used raises BadRow with the name of a rule; all other rows stay usable:

    not_json          the line is not a JSON object
    not_text          the question, answer, solution or id is a list, an object or invalid Unicode
    missing_question  the question is empty (one that holds only the mark `<image>` is accepted)
    missing_image     an entry of the images is empty (a row without pictures has an empty list of images)
    image_not_found   the image is a text that is neither a file nor base64
    image_outside     the path of the image leaves the folder of the data (links inside it are followed)
    image_unreadable  Pillow cannot decode the whole picture
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.images import BadRow
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, UserError, nearest, one_line

COLUMNS = ("question", "answer", "images", "solution", "id")
ALSO = {"question": "problem", "images": "image"}  # other names that many data sets use
LINES, PARQUET = (".json", ".jsonl"), (".parquet",)


def load_data(config: DataConfig, seed: int, limit: int | None = None) -> Sequence[Sample]:
    """The samples of the option `data=`, at most `limit` of them; indexing reads (or draws) one sample."""
    if config.name == "priorworld":
        size = config.size if limit is None else min(limit, config.size)
        return PriorWorld("train", size, seed, config.conflict, config.wrong_reference)
    rows, folder = _open(config)
    return TableData(rows, config.columns, folder, limit)


class TableData(Sequence[Sample]):
    """The rows of a table as samples: question, answer and images; solution and id if there are such columns.

    `columns` maps these names to the columns of the table. Raises ConfigError if a column does not exist.
    """

    def __init__(
        self, rows: Lines | Arrow, columns: Mapping[str, str], folder: Path, limit: int | None = None
    ):
        self.rows, self.folder = rows, folder
        self.size = len(rows) if limit is None else min(limit, len(rows))
        for name in columns:
            if name not in COLUMNS:
                hint = nearest(name, COLUMNS)
                raise ConfigError(f"data.columns.{name}: {hint}the names are {', '.join(COLUMNS)}")
        self.columns = {name: columns.get(name, name) for name in COLUMNS}
        for name, other in ALSO.items():
            if name not in columns and name not in rows.names and other in rows.names:
                self.columns[name] = other
        for name, column in self.columns.items():
            if column not in rows.names and (name in columns or name in ("question", "answer", "images")):
                there = f"{nearest(column, rows.names)}the data has {', '.join(rows.names[:12])}"
                if name in columns:
                    raise ConfigError(f"data.columns.{name}={column}: no such column; {there}")
                raise ConfigError(f"no column {column!r}: set data.columns.{name}=COLUMN; {there}")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        sample, stored = self.without_pictures(index)
        return replace(sample, images=tuple(read_image(image, self.folder) for image in stored))

    def without_pictures(self, index: int) -> tuple[Sample, list[Any]]:
        """A row as a sample without its pictures, and the pictures as they are stored, for `read_image`."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        row = self.rows[index]
        question = _text(row.get(self.columns["question"]))
        if not question:
            raise BadRow("missing_question")
        raw = row.get(self.columns["images"])
        sample = Sample(
            id=_text(row.get(self.columns["id"])) or str(index),
            question=question.replace("<image>", "").strip(),
            answer=_text(row.get(self.columns["answer"])),
            images=(),
            solution=_text(row.get(self.columns["solution"])) or None,
        )
        return sample, raw if isinstance(raw, list) else [] if raw is None else [raw]


def _text(value: Any) -> str:
    """A text or a number as text; None and NaN become an empty text."""
    if value is None or value != value:
        return ""
    if not isinstance(value, str | int | float):
        raise BadRow("not_text")
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, which no tokenizer accepts
        raise BadRow("not_text") from error
    return text


# ---------------------------------------------------------------- pictures


def read_image(raw: Any, folder: Path) -> Image.Image:
    """Decode a picture given as PIL image, bytes, base64, dict of bytes or path, or path inside `folder`."""
    if isinstance(raw, Mapping):
        raw = raw.get("bytes") or raw.get("path")
    if not raw:
        raise BadRow("missing_image")
    try:
        image = raw if isinstance(raw, Image.Image) else Image.open(io.BytesIO(picture_bytes(raw, folder)))
        image.load()
    except BadRow:
        raise
    except Exception as error:  # the decoders of Pillow raise many types of errors
        raise BadRow("image_unreadable") from error
    return image


def picture_bytes(raw: Any, folder: Path) -> bytes:
    """The bytes of a file inside `folder` or of a base64 text; any other value is returned as it is.

    Of a dict its bytes or its path are used.
    """
    if isinstance(raw, Mapping):
        raw = raw.get("bytes") or raw.get("path")
    if not isinstance(raw, str):
        return raw
    root = Path(os.path.abspath(folder))
    path = Path(os.path.abspath(root / raw))  # without `..`
    inside = path.is_relative_to(root)
    if inside and os.path.isfile(path):
        return path.read_bytes()
    try:
        return base64.b64decode("".join(raw.split("base64,")[-1].split()), validate=True)
    except ValueError as error:
        raise BadRow("image_not_found" if inside else "image_outside") from error


# ---------------------------------------------------------------- rows


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

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.table[index].to_pylist()[0]


def _open(config: DataConfig) -> tuple[Lines | Arrow, Path]:
    """The rows of a file, a folder or a hub data set, and the folder that image paths are relative to."""
    if not config.path:
        raise ConfigError(f"data={config.name} needs data.path=, a JSON lines or parquet file")
    path = Path(config.path)
    if path.is_file() and path.suffix.lower() not in LINES + PARQUET:
        raise ConfigError(f"data.path={path}: expected one of {', '.join(LINES + PARQUET)}")
    if config.name == "jsonl" and not path.exists():
        near = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
        raise ConfigError(f"data.path={path}: there is no such file{near and '; ' + near.strip()}")
    try:
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
            table = datasets.load_dataset("parquet", data_files=str(path), split="train")
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
