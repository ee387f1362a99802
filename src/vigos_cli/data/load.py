"""Turn the training data of a run into samples: PriorWorld, a file, or a Hugging Face data set.

>>> data = load_data(DataConfig(name="jsonl", path="data/train.jsonl"), seed=0)
>>> data[0].question, data[0].answer
('How many cups are on the table?', '4')

Files are JSON lines, a JSON array or parquet. Rows and pictures are read when they are used. Reading a row
that cannot be used raises BadRow with the name of a rule; all other rows stay usable:

    not_json          the line is not a JSON object
    not_text          the question, answer, solution or id is a list, an object or invalid Unicode
    missing_question  the question is empty (one that holds only the mark `<image>` is accepted)
    missing_image     an entry of the images is empty (a row without pictures has an empty list of images)
    image_marks       the question has marks `<image>`, but not as many as the row has pictures
    image_not_found   the image is a text that is neither a file nor base64
    image_outside     the path of the image leaves the folder of the data (links inside it are followed)
    image_unreadable  Pillow cannot decode the whole picture
    chat_...          the row is a conversation that cannot be asked; see `vigos_cli.data.chat_rows`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.chat_rows import CHATS, Exchange, chat_of, read_chat
from vigos_cli.data.image_marks import read_marks
from vigos_cli.data.images import BadRow
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.data.read_image import read_image
from vigos_cli.data.rows import Arrow, Lines, open_rows
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, nearest

COLUMNS = ("question", "answer", "images", "solution", "id")
ALSO = {"question": "problem", "images": "image"}  # other names that many data sets use


def load_data(config: DataConfig, seed: int, limit: int | None = None) -> Sequence[Sample]:
    """The samples of the option `data=`, at most `limit` of them; indexing reads (or draws) one sample."""
    if config.name == "priorworld":
        size = config.size if limit is None else min(limit, config.size)
        return PriorWorld("train", size, seed, config.conflict, config.wrong_reference)
    rows, folder = open_rows(config)
    return TableData(rows, config.columns, folder, limit, text_only=config.text_only == "keep")


class TableData(Sequence[Sample]):
    """The rows of a table as samples: question, answer and images; solution and id if there are such columns.

    `columns` maps these names to the columns of the table. Raises ConfigError if a column does not exist. A
    table with conversations needs no question and no answer; with `text_only` it needs no pictures.
    """

    def __init__(
        self,
        rows: Lines | Arrow,
        columns: Mapping[str, str],
        folder: Path,
        limit: int | None = None,
        *,
        text_only: bool = False,
    ):
        self.rows, self.folder = rows, folder
        self.size = len(rows) if limit is None else min(limit, len(rows))
        for name in columns:
            if name not in COLUMNS:
                hint = nearest(name, COLUMNS)
                raise ConfigError(f"data.columns.{name}: {hint}the names are {', '.join(COLUMNS)}")
        self.columns = {name: columns.get(name, name) for name in COLUMNS}
        self.also = {name: other for name, other in ALSO.items() if name not in columns}
        for name, other in self.also.items():
            if name not in rows.names and other in rows.names:
                self.columns[name] = other
        chats = any(name in rows.names for name in CHATS)
        needed = () if chats else ("question", "answer") if text_only else ("question", "answer", "images")
        for name, column in self.columns.items():
            if column not in rows.names and (name in columns or name in needed):
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
        exchange = self.exchange(row)
        question = _text(exchange.question)
        if not question and not exchange.images:
            raise BadRow("missing_question")
        sample = Sample(
            id=_text(row.get(self.columns["id"])) or str(index),
            question=question,
            answer=_text(exchange.answer),
            images=(),
            places=exchange.places,
            solution=_text(row.get(self.columns["solution"])) or None,
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
        text = _text(question)
        if not text:
            raise BadRow("missing_question")
        return Exchange(*read_marks(text, len(images)), tuple(images), answer)


def listed(pictures: Any) -> list[Any]:
    """The pictures of a row as a list: a single one, a list, or none."""
    return pictures if isinstance(pictures, list) else [] if pictures is None else [pictures]


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
