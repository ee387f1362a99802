"""Rules for the pictures of a sample: which are repaired, and which cannot be used."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

MIN_SIDE = 28  # one visual token of the Qwen models
MAX_RATIO = 100  # longest side / shortest side of a usable picture; the Qwen processors refuse a ratio of 200
MAX_SIDE = 4096  # larger pictures are reduced before the processor sees them


class BadRow(ValueError):
    """A row that cannot be used; the message is the name of the rule that it breaks."""


def usable(image: Image.Image, counts: dict[str, int]) -> Image.Image:
    """The picture in RGB and of a usable size. Repairs are counted in `counts`.

    Raises BadRow with the rule `image_strip` (too long and narrow) or `image_unreadable` (Pillow fails).
    """
    if max(image.size) > MAX_RATIO * max(1, min(image.size)):
        raise BadRow("image_strip")
    try:
        image = _rgb(ImageOps.exif_transpose(image), counts)
    except Exception as error:  # the decoders of Pillow raise many types of errors
        raise BadRow("image_unreadable") from error
    if max(image.size) > MAX_SIDE:
        _count(counts, "image_reduced")
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        _count(counts, "image_enlarged")
        scale = MIN_SIDE / min(width, height)
        image = image.resize((max(MIN_SIDE, round(width * scale)), max(MIN_SIDE, round(height * scale))))
    return image


def _rgb(image: Image.Image, counts: dict[str, int]) -> Image.Image:
    """The picture in RGB: transparent pixels become white, 16-bit greys keep their upper 8 bits."""
    if image.mode.startswith("I"):
        _count(counts, "image_16bit")
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            _count(counts, "image_on_white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _count(counts: dict[str, int], rule: str) -> None:
    counts[rule] = counts.get(rule, 0) + 1
