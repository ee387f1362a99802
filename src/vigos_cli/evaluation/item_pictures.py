"""The pictures of the first items, encoded for the page of an evaluation."""

from __future__ import annotations

from collections import Counter

from vigos_cli.evaluation.graded import Graded
from vigos_cli.reporting.embedded_images import data_uri

KEPT = (
    50  # items of each verdict whose pictures are kept, so that the page of a large benchmark opens quickly
)


class ItemPictures:
    """Collects the pictures of the first KEPT items whose first answer is right, wrong, or unparsed."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._places: dict[str, int] = {}  # data URI -> its index
        self._items: dict[str, list[int] | None] = {}

    @property
    def uris(self) -> list[str]:
        """The distinct pictures as data URIs."""
        return list(self._places)

    def see(self, graded: Graded) -> None:
        """Keep the pictures of an item when its first answer arrives."""
        sample = graded.sample
        if sample.id in self._items:
            return
        self._counts[graded.verdict.verdict] += 1
        kept = self._counts[graded.verdict.verdict] <= KEPT or not sample.images
        uris = [data_uri(image) for image in sample.images] if kept else []
        places = [self._places.setdefault(uri, len(self._places)) for uri in uris]
        self._items[sample.id] = places if kept else None

    def of(self, id: str) -> list[int] | None:
        """The indexes of an item's pictures in `uris`; None if they were not kept."""
        return self._items.get(id, [])
