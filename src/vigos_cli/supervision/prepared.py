"""A sample that is ready for a step: its encoded pictures and the student's prompt."""

from __future__ import annotations

from dataclasses import dataclass

from vigos_cli.method.prompts import EncodedImages
from vigos_cli.types import Prompt, Sample


@dataclass(frozen=True, slots=True)
class Prepared:
    """A usable sample with its own encoded images, the student's prompt, and its reference.

    `key` is its place in the batch, because ids may repeat in a data set and rows may repeat in a batch.
    """

    key: str
    sample: Sample
    images: EncodedImages
    prompt: Prompt
    reference: str  # the sample's own answer as teachers are told it
    other: Sample | None = None  # another row, if a teacher is told or shown one
    replaced: str | None = None  # told in place of every answer, for a measurement
