"""Pictures that stand for a sample's own in a control: none, grey, noise, another sample's.

>>> [sample.images for sample in show(samples, "swap")]       # pictures of another sample, never its own
>>> show(samples, "blind")                                    # the one place that takes pictures away

An answer that stays as good without its picture was not read off it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vigos_cli.data.images import BadRow, usable
from vigos_cli.types import Sample
from vigos_cli.utils import rng
from vigos_cli.utils.errors import UserError

GREY = (128, 128, 128)
Pictures = tuple[Image.Image, ...]


def blank_like(image: Image.Image, *key: object) -> Image.Image:
    """A uniformly grey picture of the same size; it needs no key."""
    return Image.new("RGB", image.size, GREY)


def noise_like(image: Image.Image, *key: object) -> Image.Image:
    """A picture of the same size whose pixels are uniform noise; the same for the same key."""
    size = (image.height, image.width, 3)
    values = rng.uniforms("noise_image", *key, count=int(np.prod(size)))
    return Image.fromarray((values * 256).astype(np.uint8).reshape(size))


LIKE: dict[str, Callable[..., Image.Image]] = {"blank": blank_like, "noise": noise_like}


def show(samples: Iterable[Sample], diagnostic: str, seed: int = 0) -> Iterator[Sample]:
    """The samples in their order, with the pictures that a diagnostic shows instead of their own.

    blind      none at all
    blank      grey, of the size that the model would see
    noise      noise of that size, each picture's its own
    swap       those of the next sample, see `swapped`
    otherwise  their own

    A sample without a picture by design stays as it is. Raises UserError for a picture that cannot be used.
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
    """A sample whose stranger has not come yet."""

    sample: Sample
    images: Pictures | None = None


def swapped(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Every sample with the pictures of the next one that is a stranger to it; the first follows the last.

    A stranger belongs to another group and shares no picture: the pictures of a group may differ in a detail
    alone, and neighbours often ask about one picture. A sample keeps its number of pictures: a stranger's
    are repeated, or cut. Only samples that wait are held. Raises UserError where a sample has no stranger.
    """
    waiting: list[_Waiting] = []
    first: list[Sample] = []  # for the last: up to three that are strangers to each other,
    trio: list[Sample] = []  # of which one at least is a stranger to any sample
    for sample in samples:
        if not sample.images:
            waiting.append(_Waiting(sample, ()))
        else:
            for one in waiting:
                if one.images is None and strangers(one.sample, sample):
                    one.images = as_many(sample.images, len(one.sample.images))
            waiting.append(_Waiting(sample))
            if len(trio) < 3:
                first.append(sample)
                trio += [sample] if all(strangers(sample, other) for other in trio) else []
        while waiting and waiting[0].images is not None:
            one = waiting.pop(0)
            yield replace(one.sample, images=one.images)
    for one in waiting:
        if one.images is None:
            stranger = next((other for other in first if strangers(one.sample, other)), None)
            if stranger is None:
                raise UserError(
                    f"item {one.sample.id}: no other item has another picture to be swapped in; "
                    "items of one group do not count"
                )
            one.images = as_many(stranger.images, len(one.sample.images))
        yield replace(one.sample, images=one.images)


def strangers(one: Sample, other: Sample) -> bool:
    """Whether two samples belong to different groups and show different pictures."""
    return (one.group or one.id) != (other.group or other.id) and not share_a_picture(one, other)


def share_a_picture(one: Sample, other: Sample) -> bool:
    """Whether any picture is in both samples."""
    return any(same_picture(a, b) for a in one.images for b in other.images)


def same_picture(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures are equal, pixel by pixel."""
    return one is other or (
        one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes()
    )


def as_many(images: Pictures, count: int) -> Pictures:
    """`count` pictures, from the first on, and again from the first."""
    return tuple(images[i % len(images)] for i in range(count))
