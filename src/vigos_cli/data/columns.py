"""Further columns of a row by name, as texts or pictures that a routing shows or tells.

    >>> needed = NeededColumns(texts=("cue",), pictures=("crop",))
    >>> sample = load_data(config.data, config.seed, config.limit, needed)[0]
    >>> text_column(sample, "cue"), picture_column(sample, "crop")
    ('The hat is on the left.', (<PIL.Image.Image ...>,))

`question`, `answer`, `solution` and `images` are columns of every sample. Of a table, any other column is
read only if it is needed, and from the column `data.columns.NAME` if that is set. PriorWorld computes its
columns from the sample (`vigos_cli.data.priorworld.evidence`), so they need not be named before.

A row whose needed column cannot be used raises BadRow when it is read, with a rule that names the column. A
column that is `optional` may be missing; then only asking for it raises the rule:

    no_column_NAME          the row has no value there, or an empty one
    column_NAME_not_text    the value is a list or an object, or invalid Unicode
    column_NAME_image_...   the picture breaks this rule of `vigos_cli.data.load` or `vigos_cli.data.images`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from PIL import Image

from vigos_cli.data.cell_text import plain_text
from vigos_cli.data.images import BadRow, usable
from vigos_cli.data.priorworld import evidence
from vigos_cli.data.read_image import read_image, stored_picture
from vigos_cli.data.rows import Arrow, Lines
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, nearest

OWN_TEXTS = ("question", "answer", "solution")  # columns that are fields of every sample
OWN_PICTURES = ("images",)
OWN = OWN_TEXTS + OWN_PICTURES
Pictures = tuple[Image.Image, ...]


@dataclass(frozen=True, slots=True)
class NeededColumns:
    """The columns that a run reads as texts and as pictures; a row may lack those that are `optional`."""

    texts: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.texts, *self.pictures):
            both = name in self.texts and name in self.pictures
            if both or name in (OWN_PICTURES if name in self.texts else OWN_TEXTS):
                raise ConfigError(f"the column {name} is named as texts and as pictures; it is one of them")

    @property
    def further(self) -> tuple[str, ...]:
        """The columns that are not fields of every sample, each once."""
        return tuple(name for name in dict.fromkeys((*self.texts, *self.pictures)) if name not in OWN)


# ---- of a sample


def text_column(sample: Sample, name: str) -> str:
    """The text of a sample's column. Raises BadRow `no_column_NAME` if it has none."""
    if name in OWN_TEXTS:
        value = getattr(sample, name)
    elif name not in sample.fields and sample.scene is not None and name in evidence.TEXTS:
        value = evidence.TEXTS[name](sample)
    else:
        value = sample.fields.get(name)
    if not isinstance(value, str) or not value:
        raise BadRow(f"no_column_{name}")
    return value


def picture_column(sample: Sample, name: str) -> Pictures:
    """The pictures of a sample's column. Raises BadRow `no_column_NAME` if it has none."""
    if name in OWN_PICTURES:
        value = sample.images
    elif name not in sample.fields and sample.scene is not None and name in evidence.PICTURES:
        value = evidence.PICTURES[name](sample)
    else:
        value = sample.fields.get(name)
    if not _are_pictures(value):
        raise BadRow(f"no_column_{name}")
    return value


def usable_columns(sample: Sample, counts: dict[str, int]) -> dict[str, Any]:
    """The fields of a sample, with every picture usable; repairs are counted in `counts`."""
    fields = dict(sample.fields)
    for name, value in fields.items():
        if _are_pictures(value):
            try:
                fields[name] = tuple(usable(image, counts) for image in value)
            except BadRow as rule:
                raise BadRow(f"column_{name}_{rule}") from rule
    return fields


def _are_pictures(value: Any) -> TypeGuard[Pictures]:
    return isinstance(value, tuple) and bool(value) and all(isinstance(one, Image.Image) for one in value)


# ---- of the rows of a table


def read_columns(
    row: Mapping[str, Any], sample: Sample, needed: NeededColumns, columns: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """The further columns of a row: a text, or a tuple of pictures that are read from inside `folder`.

    `sample` is the row as a sample, and `columns` maps names to the columns of the table.
    """
    if "solution" in needed.texts and "solution" not in needed.optional and not sample.solution:
        raise BadRow("no_column_solution")
    fields: dict[str, Any] = {}
    for name in needed.further:
        stored = row.get(columns[name])
        try:
            value = plain_text(stored) if name in needed.texts else _pictures(stored, folder)
        except BadRow as rule:
            raise BadRow(f"column_{name}_{rule}") from rule
        if value:
            fields[name] = value
        elif name not in needed.optional:
            raise BadRow(f"no_column_{name}")
    return fields


def _pictures(stored: Any, folder: Path) -> Pictures:
    pictures = listed(stored)
    if len(pictures) == 1 and not stored_picture(pictures[0]):
        return ()
    return tuple(read_image(picture, folder) for picture in pictures)


def listed(pictures: Any) -> list[Any]:
    """The pictures of a row as a list: a single one, a list, or none."""
    return pictures if isinstance(pictures, list) else [] if pictures is None else [pictures]


# ---- before a run


def check_columns_of_table(needed: NeededColumns, columns: Mapping[str, str], rows: Lines | Arrow) -> None:
    """Raise ConfigError if no row of a table has a needed column; `columns` maps names to its columns."""
    solution = ("solution",) if "solution" in needed.texts else ()
    for name in (*solution, *needed.further):
        column = columns[name]
        if not rows.has(column):
            raise ConfigError(
                f"no row of the data has the column {column!r}, which the routing needs: "
                f"{nearest(column, rows.names)}the data has {', '.join(rows.names[:12])}; if it has another "
                f"name, set data.columns.{name}=COLUMN"
            )


def check_columns_of_priorworld(needed: NeededColumns) -> None:
    """Raise ConfigError if PriorWorld does not have a needed column."""
    for kind, wanted, own, known in (
        ("texts", needed.texts, OWN_TEXTS, evidence.TEXTS),
        ("pictures", needed.pictures, OWN_PICTURES, evidence.PICTURES),
    ):
        there = (*own, *known)
        for name in wanted:
            if name not in there:
                raise ConfigError(
                    f"data=priorworld has no column of {kind} {name!r}, which the routing needs: "
                    f"{nearest(name, there)}it has {', '.join(there)}"
                )
