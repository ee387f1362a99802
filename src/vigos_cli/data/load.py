"""Turn the training data of a run into samples: PriorWorld, a file, or a Hugging Face data set.

>>> data = load_data(DataConfig(name="jsonl", path="data/train.jsonl"), seed=0)
>>> data[0].question, data[0].answer
('How many cups are on the table?', '4')

Files are JSON lines, a JSON array or parquet. Rows and pictures are read when they are used. Reading a row
that cannot be used raises BadRow with the name of a rule; all other rows stay usable:

    not_json          the line is not a JSON object
    not_text          the question, answer, solution or id is a list, an object, an infinite number or
                      invalid Unicode
    missing_question  the question is empty (one that holds only the mark `<image>` is accepted)
    missing_image     an entry of the images is empty (a row without pictures has an empty list of images)
    image_marks       the question has marks `<image>`, but not as many as the row has pictures
    image_not_found   the image is a text that is neither a file nor base64
    image_outside     the path of the image leaves the folder of the data (links inside it are followed)
    image_unreadable  Pillow cannot decode the whole picture
    image_too_large   it has more pixels, or its file more bytes, than can be read
    chat_...          the row is a conversation that cannot be asked; see `vigos_cli.data.chat_rows`
    no_column_..., column_...  a further column that the run needs; see `vigos_cli.data.columns`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.cell_text import plain_text
from vigos_cli.data.chat_rows import CHATS, Exchange, chat_of, read_chat
from vigos_cli.data.columns import (
    NeededColumns,
    check_columns_of_priorworld,
    check_columns_of_table,
    listed,
    read_columns,
)
from vigos_cli.data.image_marks import read_marks
from vigos_cli.data.images import BadRow
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.data.read_image import read_image
from vigos_cli.data.rows import Arrow, Lines, open_rows
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, nearest

COLUMNS = ("question", "answer", "images", "solution", "id")
ALSO = {"question": "problem", "images": "image"}  # other names that many data sets use
NONE = NeededColumns()


def load_data(
    config: DataConfig, seed: int, limit: int | None = None, needed: NeededColumns = NONE
) -> Sequence[Sample]:
    """The samples of the option `data=`, at most `limit` of them; indexing reads (or draws) one sample.

    `needed` are further columns that the run uses, see `vigos_cli.data.columns`. Raises ConfigError if the
    data do not have one.
    """
    if config.name == "priorworld":
        check_columns_of_priorworld(needed)
        size = config.size if limit is None else min(limit, config.size)
        return PriorWorld("train", size, seed, config.conflict, config.wrong_reference)
    rows, folder = open_rows(config)
    keep = config.text_only == "keep"
    return TableData(rows, config.columns, folder, limit, text_only=keep, needed=needed)


def of_every_run(config: DataConfig) -> DataConfig:
    """The same data without the names in `data.columns` that only a routing needs."""
    return replace(config, columns={name: c for name, c in config.columns.items() if name in COLUMNS})


class TableData(Sequence[Sample]):
    """The rows of a table as samples: question, answer and images; solution and id if there are such columns.

    `columns` maps these names to the columns of the table. Raises ConfigError if a column does not exist. A
    table with conversations needs no question and no answer; with `text_only` it needs no pictures. The
    `needed` columns are in the `fields` of a sample.
    """

    def __init__(
        self,
        rows: Lines | Arrow,
        columns: Mapping[str, str],
        folder: Path,
        limit: int | None = None,
        *,
        text_only: bool = False,
        needed: NeededColumns = NONE,
    ):
        self.rows, self.folder, self.needed = rows, folder, needed
        self.size = len(rows) if limit is None else min(limit, len(rows))
        known = (*COLUMNS, *needed.further)
        for name in columns:
            if name not in known:
                hint = nearest(name, known)
                raise ConfigError(f"data.columns.{name}: {hint}the names are {', '.join(known)}")
        self.columns = {name: columns.get(name, name) for name in known}
        self.also = {name: other for name, other in ALSO.items() if name not in columns}
        for name, other in self.also.items():
            if name not in rows.names and other in rows.names:
                self.columns[name] = other
        chats = any(name in rows.names for name in CHATS)
        least = () if chats else ("question", "answer") if text_only else ("question", "answer", "images")
        for name in COLUMNS:
            column = self.columns[name]
            if column not in rows.names and (name in columns or name in least):
                there = f"{nearest(column, rows.names)}the data has {', '.join(rows.names[:12])}"
                if name in columns:
                    raise ConfigError(f"data.columns.{name}={column}: no such column; {there}")
                raise ConfigError(f"no column {column!r}: set data.columns.{name}=COLUMN; {there}")
        check_columns_of_table(needed, self.columns, rows)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        row = self._row(index)
        sample, stored = self._without_pictures(row, index)
        return replace(
            sample,
            images=tuple(read_image(image, self.folder) for image in stored),
            fields=read_columns(row, sample, self.needed, self.columns, self.folder),
        )

    def without_pictures(self, index: int) -> tuple[Sample, list[Any]]:
        """A row as a sample without its pictures, and the pictures as they are stored, for `read_image`.

        The sample has no further columns either.
        """
        return self._without_pictures(self._row(index), index)

    def without_columns(self) -> TableData:
        """The same rows, read without further columns: what a measurement needs of them."""
        table = copy(self)
        table.needed = NONE
        return table

    def _row(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self.rows[index]

    def _without_pictures(self, row: Mapping[str, Any], index: int) -> tuple[Sample, list[Any]]:
        exchange = self.exchange(row)
        question = plain_text(exchange.question)
        if not question and not exchange.images:
            raise BadRow("missing_question")
        sample = Sample(
            id=plain_text(row.get(self.columns["id"])) or str(index),
            question=question,
            answer=plain_text(exchange.answer),
            images=(),
            places=exchange.places,
            solution=plain_text(row.get(self.columns["solution"])) or None,
        )
        return sample, list(exchange.images)

    def value(self, row: Mapping[str, Any], name: str) -> Any:
        """The value of a row under one of the names in `COLUMNS`; None without one."""
        value = row.get(self.columns[name])
        return row.get(self.also[name]) if value is None and name in self.also else value

    def exchange(self, row: Mapping[str, Any]) -> Exchange:
        """The question of a row with its places and pictures, not yet read, and its answer."""
        images = listed(self.value(row, "images"))
        question, answer = self.value(row, "question"), self.value(row, "answer")
        if chat_of(row) is not None and question is None:
            exchange = read_chat(row, images)
            return exchange if exchange.answer is not None else replace(exchange, answer=answer)
        text = plain_text(question)
        if not text:
            raise BadRow("missing_question")
        return Exchange(*read_marks(text, len(images)), tuple(images), answer)
