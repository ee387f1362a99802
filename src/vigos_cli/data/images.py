"""Rules for the pictures of a sample: which are repaired, and which cannot be used.

Each repair is counted under its name. The pictures of training rows and of benchmarks follow the same rules.

    image_rotated      turned upright, as its EXIF orientation says
    image_first_frame  an animation or a file of several pages: the first one is used
    image_grey_scaled  greys of 16 or 32 bits are scaled to 8 bits, see `_scaled`
    image_cmyk         the colours of a print (CMYK) are converted
    image_on_white     transparent pixels become white
    image_reduced      a side is longer than MAX_SIDE
    image_enlarged     a side is shorter than MIN_SIDE, such as in a picture that is one pixel high

A picture is not used if its long side is more than MAX_RATIO times its short side (`image_strip`), if it has
more than MAX_PIXELS pixels (`image_too_large`), or if Pillow cannot decode it (`image_unreadable`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

MIN_SIDE = 28  # one visual token of the Qwen models
MAX_RATIO = 100  # longest side / shortest side of a usable picture; the Qwen processors refuse a ratio of 200
MAX_SIDE = 4096  # larger pictures are reduced before the processor sees them
MAX_PIXELS = 90_000_000  # a picture of this size takes 1 GB and two seconds; a file of 100 kB may claim more
FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)  # largest value of 0..1 and of 8, 10, 12, 14 and 16 bits
FLAT = 1 / 8  # greys that use a smaller share of their scale are stretched
EXIF_ORIENTATION = 0x0112


class BadRow(ValueError):
    """A row that cannot be used; the message is the name of the rule that it breaks."""


def check_size(image: Image.Image) -> None:
    """Raise BadRow `image_too_large` for a picture that would take too much memory to decode."""
    if image.width * image.height > MAX_PIXELS:
        raise BadRow("image_too_large")


def usable(image: Image.Image, counts: dict[str, int]) -> Image.Image:
    """The picture in RGB and of a usable size. Repairs are counted in `counts`.

    Raises BadRow with the rule `image_strip` (too long and narrow), `image_too_large` or `image_unreadable`
    (Pillow fails).
    """
    check_size(image)
    if max(image.size) > MAX_RATIO * max(1, min(image.size)):
        raise BadRow("image_strip")
    found: list[str] = []
    try:
        if getattr(image, "is_animated", False):
            found.append("image_first_frame")
        image = _rgb(_upright(image, found), found)
    except Exception as error:  # the decoders of Pillow raise many types of errors
        raise BadRow("image_unreadable") from error
    if max(image.size) > MAX_SIDE:
        found.append("image_reduced")
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        found.append("image_enlarged")
        scale = MIN_SIDE / min(width, height)
        image = image.resize((max(MIN_SIDE, round(width * scale)), max(MIN_SIDE, round(height * scale))))
    for rule in found:
        counts[rule] = counts.get(rule, 0) + 1
    return image


def as_seen(image: Image.Image) -> Image.Image:
    """The picture as a person sees it on a page: upright, 8 bits for each colour, in its own size."""
    try:
        image = _upright(image, [])
        return image if image.mode in ("L", "RGB", "RGBA") else _rgb(image, [])
    except Exception:  # such a picture was not shown to a model
        return Image.new("RGB", image.size, "white")


def _upright(image: Image.Image, found: list[str]) -> Image.Image:
    """The picture turned as its EXIF data say; unchanged if these are damaged."""
    image.load()
    try:
        if image.getexif().get(EXIF_ORIENTATION, 1) not in range(2, 9):
            return image
        turned = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data raise many types of errors
        return image
    found.append("image_rotated")
    return turned


def _rgb(image: Image.Image, found: list[str]) -> Image.Image:
    """The picture in RGB; greys of more than 8 bits are scaled, transparent pixels become white."""
    if image.mode.startswith("I") or image.mode == "F":
        found.append("image_grey_scaled")
        if max(image.size) > MAX_SIDE:  # `_scaled` needs 40 bytes for each pixel
            image = image.convert("F")
            image.thumbnail((MAX_SIDE, MAX_SIDE))
            found.append("image_reduced")
        return Image.fromarray(_scaled(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            found.append("image_on_white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        found.append("image_cmyk")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(greys: Any) -> Any:
    """Greys of 16 or 32 bits as 8 bits; both are arrays of height and width.

    Files rarely say which value is white. White is the smallest of FULL_SCALES that no grey exceeds. If the
    greys do not fit, or if 98 % of them would differ by less than FLAT of that scale, black and white are the
    greys that 1 % of the pixels are below and above, or the smallest and the largest one if these are equal.
    A value that is not a number is black.
    """
    values = np.asarray(greys, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no pixel has a value")
    least, most = float(finite.min()), float(finite.max())
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    black, white = 0.0, float(next((scale for scale in FULL_SCALES if most <= scale), 0))
    fits = least >= 0 and white > 0
    if most > least and (not fits or high - low < FLAT * white):
        black, white = (low, high) if high > low else (least, most)
    elif not fits:  # one value everywhere
        black, white = most - 1, most + 1
    shares = np.clip(
        (np.nan_to_num(values, nan=black, posinf=white, neginf=black) - black) / (white - black), 0, 1
    )
    return np.round(255 * shares).astype(np.uint8)
