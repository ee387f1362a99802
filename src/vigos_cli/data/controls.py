"""Replace the pictures of samples for a control: none, grey, noise, or another sample's.

    >>> [sample.images for sample in with_control_images(samples, "blind")]
    [(), (), ()]

If a model answers as well without a sample's own picture, it did not read the answers from the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from PIL import Image

from vigos_cli.data.degradations import Pictures, blank_like, noise_like
from vigos_cli.data.images import BadRow, usable
from vigos_cli.types import Sample
from vigos_cli.utils.errors import UserError

LIKE: dict[str, Callable[..., Image.Image]] = {"blank": blank_like, "noise": noise_like}


def with_control_images(samples: Iterable[Sample], diagnostic: str, seed: int = 0) -> Iterator[Sample]:
    """The samples in the same order, with the pictures that a diagnostic shows in place of their own.

    blind            no pictures
    blank            grey pictures of the size that the model would see
    noise            noise of that size, different for every picture
    swap             the pictures of a later sample, see `swapped`
    any other name   their own pictures

    A sample that has no pictures stays as it is. Raises UserError for a picture that cannot be used.
    """
    if diagnostic == "swap":
        yield from swapped(samples)
        return
    for sample in samples:
        if diagnostic == "blind":
            yield replace(sample, images=())
        elif diagnostic in LIKE:
            try:
                own = [usable(image, {}) for image in sample.images]
            except BadRow as rule:
                raise UserError(f"item {sample.id}: {rule}") from rule
            images = (LIKE[diagnostic](image, seed, sample.id, place) for place, image in enumerate(own))
            yield replace(sample, images=tuple(images))
        else:
            yield sample


@dataclass
class _Waiting:
    """A sample, and the pictures of an unrelated sample once one was found."""

    sample: Sample
    images: Pictures | None = None


def swapped(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Every sample with the pictures of the next unrelated sample; after the last one comes the first.

    Unrelated samples belong to different groups and share no picture: the pictures of one group may differ
    only in a detail, and neighbouring samples often ask about the same picture. A sample keeps its number of
    pictures: those of the other sample are repeated or cut. Only samples that still wait for their pictures
    are kept in memory. Raises UserError if a sample has no unrelated sample.
    """
    waiting: list[_Waiting] = []
    # For the last samples: the first ones, until `trio` holds three that are unrelated to each other. At
    # least one of three such samples is unrelated to any other sample that has a single picture.
    first: list[Sample] = []
    trio: list[Sample] = []
    for sample in samples:
        if not sample.images:
            waiting.append(_Waiting(sample, ()))
        else:
            for one in waiting:
                if one.images is None and unrelated(one.sample, sample):
                    one.images = as_many(sample.images, len(one.sample.images))
            waiting.append(_Waiting(sample))
            if len(trio) < 3:
                first.append(sample)
                trio += [sample] if all(unrelated(sample, other) for other in trio) else []
        while waiting and waiting[0].images is not None:
            one = waiting.pop(0)
            yield replace(one.sample, images=one.images)
    for one in waiting:
        if one.images is None:
            other = next((each for each in first if unrelated(one.sample, each)), None)
            if other is None:
                raise UserError(
                    f"item {one.sample.id}: no other item has another picture to show in its place; "
                    "items of the same group do not count"
                )
            one.images = as_many(other.images, len(one.sample.images))
        yield replace(one.sample, images=one.images)


def unrelated(one: Sample, other: Sample) -> bool:
    """Whether two samples belong to different groups and share no picture."""
    return (one.group or one.id) != (other.group or other.id) and not share_a_picture(one, other)


def share_a_picture(one: Sample, other: Sample) -> bool:
    """Whether the two samples have a picture in common."""
    return any(same_picture(a, b) for a in one.images for b in other.images)


def same_picture(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures have the same size, mode and pixels."""
    return one is other or (
        one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes()
    )


def as_many(images: Pictures, count: int) -> Pictures:
    """Exactly `count` pictures: the given ones in order, repeated from the first if there are too few."""
    return tuple(images[i % len(images)] for i in range(count))
