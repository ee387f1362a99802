"""How a benchmark's rows are read: their pictures, and which rows were left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.data.images import BadRow
from vigos_cli.utils.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Row = Mapping[str, Any]


@dataclass
class RowReader:
    """How rows are read: where they and their pictures are, and what had to be left out."""

    folder: Path = Path()
    images: bool = True  # False: responses are already there, nobody looks at the pictures
    columns: tuple[str, ...] = ()  # of all rows together, where that is known: one row may lack some
    revision: str | None = None  # the hub's commit that is read; None for rows from elsewhere
    left_out: dict[str, list[str]] = field(default_factory=dict)  # rule -> items
    without_picture: int = 0  # items that have none though the benchmark is no blind one
    rows: int = 0
    at: int = 0  # the index of the row that is being read
    limit: int | None = None  # of items

    def total(self, done: int) -> int:
        """How many items there will be, by how far the rows have been read after as many."""
        read = round(done * self.rows / (self.at + 1)) if done else self.rows
        return read if self.limit is None else min(self.limit, read)

    def image(self, raw: Any, item: str) -> tuple[Image, ...]:
        """One picture in a tuple; none when nobody looks. UserError, naming the item, when there is none."""
        if not self.images:
            return ()
        from vigos_cli.data.load import read_image

        try:
            return (read_image(raw, self.folder),)
        except BadRow as error:
            what = str(error).replace("_", " ")
            raise UserError(f"{item}: {what}; an item is never asked without its picture") from error
