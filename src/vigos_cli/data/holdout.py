"""Hold back rows of the training data as a benchmark, so that no picture is on both sides.

    held = choose_holdout(data, 200)
    held.rows[0]           # HeldRow(row=17, id="r17", group="03ab...", keys=("03ab...",))
    held.left_out          # the rows that are never trained on
    held.samples()         # the held-out rows as samples, in the order in which they are asked

Rows that share a picture, directly or through other rows, form a group. The groups are ordered by the digest
of their pictures, and whole groups are held back from the first one on. So the choice depends on nothing but
the content of the data. A row without pictures counts by its question. A group with more rows than may still
be held back is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vigos_cli.data.check import usable_sample
from vigos_cli.data.contamination import in_threads, normal_question
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import TableData
from vigos_cli.data.picture_hash import content_digest
from vigos_cli.data.read_image import picture_bytes, read_image
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError

FILE = "holdout.json"  # in a run's folder: the rows that it held back
LARGEST_SHARE = 5  # at most one row of so many is held back


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row that is held back: its index, its id as an item, its group, and the digests of its pictures."""

    row: int
    id: str
    group: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Holdout:
    """The rows of a data set that are held back, in the order in which they are asked.

    `left_out` also has the unusable rows that share a picture with these. Only the first `asked` are asked.
    `note` is what a reader of the figures must know about the rows.
    """

    data: TableData
    rows: tuple[HeldRow, ...]
    left_out: tuple[int, ...]
    asked: int
    note: str = ""

    def samples(self, *, images: bool = True) -> Iterator[Sample]:
        """The samples that are asked; `images=False` leaves their pictures out."""
        for one in self.rows[: self.asked]:
            sample, stored = self.data.without_pictures(one.row)
            shown = tuple(read_image(raw, self.data.folder) for raw in stored) if images else ()
            fields = {} if stored else {"text_only": True}  # such a row is asked without a description
            yield replace(sample, id=one.id, group=one.group, images=shown, fields=fields)

    def content(self) -> dict[str, Any]:
        """What `holdout.json` holds of it."""
        rows = [asdict(one) for one in self.rows]
        return {"asked": self.asked, "note": self.note, "left_out": list(self.left_out), "rows": rows}


def read_holdout(data: TableData, content: Mapping[str, Any]) -> Holdout:
    """The holdout that `Holdout.content` describes, for the same data."""
    rows = (HeldRow(**{**row, "keys": tuple(row["keys"])}) for row in content["rows"])
    return Holdout(data, tuple(rows), tuple(content["left_out"]), content["asked"], content["note"])


def choose_holdout(data: TableData, most: int, *, text_only: bool = False) -> Holdout:
    """Hold back at most `most` rows, and at most a fifth of the data.

    With `text_only` rows without pictures can be held back too. Reads all picture files once, with progress.
    Raises ConfigError if no row can be held back.
    """
    room = min(most, len(data) // LARGEST_SHARE)
    keys = list(in_threads(lambda row: _keys(data, row, text_only), len(data), "holdout: reading pictures"))
    held: list[HeldRow] = []
    left_out: list[int] = []
    for group, members in grouped(keys).items():
        if len(members) > room - len(left_out):
            continue
        left_out += members
        usable = ((row, _usable(data, row, text_only)) for row in members)
        held += [HeldRow(row, id, group, keys[row]) for row, id in usable if id]
    if not held:
        raise ConfigError(
            f"bench=holdout: none of the {len(data)} rows can be held back (at most a fifth of them is, and "
            "rows that share a picture stay together): choose another benchmark with bench="
        )
    repeated = {id for id, n in Counter(one.id for one in held).items() if n > 1}
    held = [replace(one, id=f"{one.id} (row {one.row})") if one.id in repeated else one for one in held]
    return Holdout(data, tuple(held), tuple(sorted(left_out)), len(held))


def _keys(data: TableData, row: int, text_only: bool) -> tuple[str, ...]:
    """The digests of the pictures of a row; empty for a row that cannot be used."""
    try:
        sample, stored = data.without_pictures(row)
        contents = [picture_bytes(raw, data.folder) for raw in stored]
    except (BadRow, OSError):
        return ()
    if not stored and text_only:
        contents = [f"question {normal_question(sample.question)}".encode()]
    if not all(isinstance(content, bytes) for content in contents):
        return ()
    return tuple(content_digest(content) for content in contents)


def _usable(data: TableData, row: int, text_only: bool) -> str:
    """The id of a row that can be asked and graded, whatever a routing needs of it; else an empty text."""
    try:
        return usable_sample(data.without_columns(), row, {}, text_only=text_only).id
    except BadRow:
        return ""


def grouped(keys: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """The indices that share a key, directly or through others, by the smallest key of each group, sorted.

    An index without keys is in no group.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    for own in keys:
        for key in own:
            one, other = sorted((root(own[0]), root(key)))
            parent[other] = one  # the root is the smallest key of its group
    groups: dict[str, list[int]] = {}
    for index, own in enumerate(keys):
        if own:
            groups.setdefault(root(own[0]), []).append(index)
    return dict(sorted(groups.items()))
