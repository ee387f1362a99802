"""Find the training rows whose pictures or questions are also in a benchmark.

    rows, counts = table_marks(data, range(1000), cache)      # what is compared of each training row
    found = matches(rows, items)                              # items: the marks of the benchmark's items
    found[0]
    Match(row=17, id="r17", item="168", kind="both", distance=1)

The kinds of a match, from the strongest:

    both        the question is equal, and a picture is near: its hash differs in at most 4 of 64 bits
    picture     a picture is near, and its grey values are the same too; the question is another one
    question    the question is equal, and the row or the item has no picture that can be compared
    look_alike  only the hash is near; among drawings on a white page most of these are chance

Questions are compared as `normal_question` writes them. Of several pictures any may match. A blank picture
never matches. This module knows no benchmark: the caller makes the items from samples with `sample_marks`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from vigos_cli.data.images import BadRow
from vigos_cli.data.load import TableData
from vigos_cli.data.picture_hash import (
    NEAR,
    HashCache,
    PictureHash,
    bit_distances,
    content_digest,
    looks_same,
    picture_hash,
)
from vigos_cli.data.read_image import picture_bytes, read_image
from vigos_cli.types import Sample
from vigos_cli.utils.progress import Bar

KINDS = ("both", "picture", "question", "look_alike")
PER_ROW = 10  # matches of a row that are kept, the strongest ones
BLOCK = 4_000_000  # distances that are computed at once
PAIRS = 10_000  # near pictures whose grey values are compared at once
LONGEST = 20_000  # characters of a question that are compared

MARK = re.compile(r"<image\s*\d*>|\[image\s*\d*\]", re.IGNORECASE)
LABEL = re.compile(r"(?:^|(?<=[\s,;]))\(?([AB])[.:)]")
HEADING = re.compile(r"^[ \t]*(?:question|problem|choices|options)[ \t]*:", re.IGNORECASE | re.MULTILINE)
HINT = re.compile(
    r"^[ \t]*(?:hint[ \t]*:|(?:please )?answer\b.*\b(?:with|using)\b).*$", re.IGNORECASE | re.MULTILINE
)
OPERATORS = "-*/%"  # marks of Unicode's class of punctuation that change the meaning of a formula
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Marks:
    """What is compared of a training row or of an item of a benchmark."""

    row: int  # its index
    id: str
    question: str  # as `normal_question` writes it; an empty one equals no other
    pictures: tuple[PictureHash, ...]  # without blank and unreadable ones


@dataclass(frozen=True, slots=True)
class Match:
    """A training row and an item of a benchmark that match; `distance` in bits, None without pictures."""

    row: int
    id: str
    item: str
    kind: str
    distance: int | None


# ---------------------------------------------------------------- questions


def normal_question(text: str) -> str:
    """A question in lower case, without punctuation, picture marks, hints and the options listed in it.

    >>> normal_question("Question: Which of <image 1> is larger?\\n(A) the cup\\n(B) the jug")
    'which of is larger'

    Signs of arithmetic stay. If a text has nothing besides options or hints, these are not removed.
    """
    text = MARK.sub(" ", unicodedata.normalize("NFKC", text[:LONGEST]))
    text = HEADING.sub("", text)
    return _words(_before_options(HINT.sub("", text))) or _words(text)


def _before_options(text: str) -> str:
    """The text up to a label A that a label B follows, such as `(A)`, `A.` or `A:`."""
    labels = list(LABEL.finditer(text))
    for label, following in pairwise(labels):
        if label[1] == "A" and following[1] == "B":
            return text[: label.start()]
    return text


def _words(text: str) -> str:
    def separates(sign: str) -> bool:
        return sign == "$" or (unicodedata.category(sign)[0] == "P" and sign not in OPERATORS)

    return " ".join("".join(" " if separates(sign) else sign for sign in text.casefold()).split())


# ---------------------------------------------------------------- marks


def sample_marks(row: int, sample: Sample, counts: Counter[str]) -> Marks:
    """The marks of a sample whose pictures are read; blank and unusable pictures are counted in `counts`."""
    hashes = []
    for image in sample.images:
        try:
            hashes.append(picture_hash(image))
        except BadRow:
            counts["unreadable"] += 1
    return _marks(row, sample, hashes, counts)


def _marks(row: int, sample: Sample, hashes: Sequence[PictureHash | None], counts: Counter[str]) -> Marks:
    pictures = tuple(one for one in hashes if one is not None)
    counts["pictures"] += len(hashes)
    counts["blank"] += len(hashes) - len(pictures)
    return Marks(row, sample.id, normal_question(sample.question), pictures)


def table_marks(data: TableData, rows: Sequence[int], cache: HashCache) -> tuple[list[Marks], Counter[str]]:
    """The marks of some rows of a table, with progress, and counts of pictures and of unusable rows."""
    marks, counts = [], Counter()

    def read(place: int) -> tuple[Marks | None, Counter[str], dict[str, PictureHash | None]]:
        return _read_row(data, rows[place], cache)

    for one, own, hashes in in_threads(read, len(rows), "compare: training rows"):
        cache.add(hashes)
        counts.update(own)
        marks += [one] if one else []
    return marks, counts


def _read_row(
    data: TableData, row: int, cache: HashCache
) -> tuple[Marks | None, Counter[str], dict[str, PictureHash | None]]:
    """The marks of a row (None if it cannot be used), counts, and the hashes by digest."""
    counts: Counter[str] = Counter()
    new: dict[str, PictureHash | None] = {}
    hashes: list[PictureHash | None] = []
    try:
        sample, stored = data.without_pictures(row)
    except BadRow:
        return None, Counter(unusable_rows=1), new
    for raw in stored:
        try:
            content = picture_bytes(raw, data.folder)
            digest = content_digest(content) if isinstance(content, bytes) else ""
            if digest not in cache.known:
                new[digest] = picture_hash(read_image(content, data.folder))
            hashes.append(new[digest] if digest in new else cache.known[digest])
        except (BadRow, OSError):
            counts["unreadable"] += 1
    return _marks(row, sample, hashes, counts), counts, {k: v for k, v in new.items() if k}


def in_threads(function: Callable[[int], Item], size: int, title: str) -> Iterator[Item]:
    """`function(0)` to `function(size - 1)` in order, computed in threads, with progress.

    Pillow decodes and reduces pictures in parallel.
    """
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, Bar(title, size) as bar:
        for start in range(0, size, 8 * workers):
            for result in pool.map(function, range(start, min(size, start + 8 * workers))):
                bar.advance()
                yield result


# ---------------------------------------------------------------- matches


def matches(rows: Sequence[Marks], items: Sequence[Marks]) -> list[Match]:
    """The matches of training rows with items whose ids are unique; of each row the strongest `PER_ROW`."""
    near = _near_pictures(rows, items)
    shown: defaultdict[PictureHash, list[Marks]] = defaultdict(list)
    asked: defaultdict[str, list[Marks]] = defaultdict(list)
    for item in items:
        asked[item.question].append(item)
        for picture in set(item.pictures):
            shown[picture].append(item)
    asked.pop("", None)
    found = []
    for row in rows:
        best: dict[str, Match] = {}
        for picture in row.pictures:
            for other, distance, same in near.get(picture, ()):
                for item in shown[other]:
                    equal = bool(row.question) and row.question == item.question
                    kind = "both" if equal else "picture" if same else "look_alike"
                    _keep_strongest(best, Match(row.row, row.id, item.id, kind, distance))
        for item in asked.get(row.question, ()):
            if not row.pictures or not item.pictures:
                _keep_strongest(best, Match(row.row, row.id, item.id, "question", None))
        found += sorted(best.values(), key=_rank)[:PER_ROW]
    return found


def _keep_strongest(best: dict[str, Match], match: Match) -> None:
    if match.item not in best or _rank(match) < _rank(best[match.item]):
        best[match.item] = match


def _rank(match: Match) -> tuple[int, int]:
    """The strongest match has the smallest rank."""
    return KINDS.index(match.kind), match.distance or 0


def _near_pictures(
    rows: Sequence[Marks], items: Sequence[Marks]
) -> dict[PictureHash, list[tuple[PictureHash, int, bool]]]:
    """For each picture of the rows, the near pictures of the items: distance in bits, and `looks_same`.

    Each pair of different pictures is compared once, however many rows show it.
    """
    ours, theirs = ([*dict.fromkeys(p for one in side for p in one.pictures)] for side in (rows, items))
    near: defaultdict[PictureHash, list[tuple[PictureHash, int, bool]]] = defaultdict(list)
    block = max(1, BLOCK // max(1, len(theirs)))
    for start in range(0, len(ours) if theirs else 0, block):
        some = ours[start : start + block]
        distances = bit_distances(some, theirs)
        left, right = np.nonzero(distances <= NEAR)
        for first in range(0, len(left), PAIRS):
            pairs = list(zip(left[first : first + PAIRS], right[first : first + PAIRS], strict=True))
            same = looks_same([some[i] for i, _ in pairs], [theirs[j] for _, j in pairs])
            for (i, j), alike in zip(pairs, same, strict=True):
                near[some[i]].append((theirs[j], int(distances[i, j]), bool(alike)))
    return near


def strongest_kinds(found: Iterable[Match]) -> dict[int, str]:
    """The strongest kind of match of each row that has one."""
    kinds: dict[int, str] = {}
    for match in sorted(found, key=lambda match: (match.row, _rank(match))):
        kinds.setdefault(match.row, match.kind)
    return kinds


class KeptRows(Sequence[Sample]):
    """A data set without the rows at some indices."""

    def __init__(self, data: Sequence[Sample], left_out: Iterable[int]):
        gone = set(left_out)
        self.data = data
        self.indices = [index for index in range(len(data)) if index not in gone]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if index < 0:
            raise IndexError(index)
        return self.data[self.indices[index]]
