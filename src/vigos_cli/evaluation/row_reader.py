"""Read the pictures of a benchmark's rows, and record which rows are left out and why."""

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
    """Reads the pictures of rows, and counts what is left out."""

    folder: Path = Path()
    images: bool = True  # False: responses are already there, so pictures are not read
    columns: tuple[str, ...] = ()  # of all rows together, if known; a single row may lack some
    revision: str | None = None  # commit of the hub data set; None for local rows
    left_out: dict[str, list[str]] = field(default_factory=dict)  # rule -> items
    without_picture: int = 0  # items without a picture, in a benchmark that is not text-only
    rows: int = 0
    at: int = 0  # index of the current row
    limit: int | None = None  # number of items
    note: str = ""  # what a reader of the figures must know about the items

    def total(self, done: int) -> int:
        """Estimate the number of items from how many rows have produced the first `done` items."""
        read = round(done * self.rows / (self.at + 1)) if done else self.rows
        return read if self.limit is None else min(self.limit, read)

    def image(self, raw: Any, item: str) -> tuple[Image, ...]:
        """A tuple with the picture; empty if `images` is False. Raises UserError if it cannot be read."""
        if not self.images:
            return ()
        from vigos_cli.data.read_image import read_image

        try:
            return (read_image(raw, self.folder),)
        except BadRow as error:
            what = str(error).replace("_", " ")
            raise UserError(f"{item}: {what}; an item is never asked without its picture") from error
