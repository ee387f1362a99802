"""Change a picture: black, noise, blur, masks, degradations, a red box and crops.

    >>> degraded(images, "blur", seed=0, sample_id="cups")
    >>> degraded(images, {"mask": "image", "area": 1 / 3, "seed": 0}, seed=0, sample_id="cups")
    >>> degraded(images, {"one_of": [[0.3, "one_sharp_region"], [0.3, "blur"]]}, seed=0, sample_id="cups")

Every function takes a picture that `vigos_cli.data.images.usable` has returned, leaves it as it is, and
returns one in RGB. No result has a side above MAX_SIDE, or one below MIN_SIDE where the picture's was not.
`key` is hashed: the same key gives the same pixels, another key another draw. Where a published method does
not state a number or a place, the function says what is chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from vigos_cli.data.images import MAX_RATIO, MAX_SIDE, MIN_SIDE
from vigos_cli.utils import rng
from vigos_cli.utils.errors import ConfigError, nearest

Pictures = tuple[Image.Image, ...]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the right and the bottom are outside

GREY = (128, 128, 128)
RED = (255, 0, 0)
BLUR_RADIUS = 15.0  # pixels (OPD-V)
MASK_AREA = 1 / 3  # share of the picture (OPD-V)
MASK_ASPECT = (0.5, 2.0)  # width / height of the mask (OPD-V)
DOWNSCALE = (0.3, 0.6)  # shares of the sides (S2VOPD)
SHRINK = (0.4, 0.8)  # shares of the sides (S2VOPD)
CANVAS = (0.5, 0.7)  # shares of the sides (S2VOPD)
SHARP = (0.15, 0.35)  # shares of the area (S2VOPD: of what is not stated)
JITTER = (0.6, 1.4)  # factors of brightness, contrast and saturation (S2VOPD: not stated)
BOX_WIDTH = 1 / 160  # width of a red line as a share of the picture's long side

# ---- one picture in place of another


def blank_like(image: Image.Image, *key: object) -> Image.Image:
    """A uniformly grey picture of the same size; `key` is not used."""
    return Image.new("RGB", image.size, GREY)


def black_like(image: Image.Image, *key: object) -> Image.Image:
    """A black picture of the same size; `key` is not used."""
    return Image.new("RGB", image.size)


def noise_like(image: Image.Image, *key: object) -> Image.Image:
    """A picture of the same size with uniform random pixels."""
    size = (image.height, image.width, 3)
    values = rng.uniforms("noise_image", *key, count=math.prod(size))
    values *= 256
    return Image.fromarray(values.astype(np.uint8).reshape(size))


# ---- less of a picture


def blurred(image: Image.Image, *key: object) -> Image.Image:
    """A Gaussian blur of BLUR_RADIUS pixels, whatever the size; `key` is not used."""
    return image.convert("RGB").filter(ImageFilter.GaussianBlur(BLUR_RADIUS))


def mask_rectangle(image: Image.Image, area: float = MASK_AREA, seed: object = 0) -> Image.Image:
    """The picture with one black rectangle that covers this share of it.

    The place depends on `seed` and on the size only, so pictures of one size are masked at the same place.
    The rectangle is half to twice as wide as high; in a picture that is too long and narrow for such a
    rectangle, it covers the whole short side.
    """
    if not 0 < area <= 1:
        raise ValueError(f"area={area}: a share above 0 and at most 1")
    image = image.convert("RGB")
    width, height = image.size
    pixels = area * width * height
    widest, narrowest = width * width / pixels, pixels / (height * height)  # that fit into the picture
    low, high = (min(max(bound, narrowest), widest) for bound in MASK_ASPECT)
    shape, x, y = (float(value) for value in rng.uniforms("mask", seed, count=3))
    aspect = low * (high / low) ** shape
    wide = min(width, max(1, round(math.sqrt(pixels * aspect))))
    high_ = min(height, max(1, round(pixels / wide)))
    left, top = round(x * (width - wide)), round(y * (height - high_))
    image.paste((0, 0, 0), (left, top, left + wide, top + high_))
    return image


def downscale(image: Image.Image, *key: object) -> Image.Image:
    """The picture reduced to .3 to .6 of its sides, and not enlarged again (S2VOPD)."""
    (draw,) = rng.uniforms("downscale", *key, count=1)
    return _scaled(image.convert("RGB"), _between(DOWNSCALE, draw))


def shrink_on_black(image: Image.Image, *key: object) -> Image.Image:
    """The picture reduced to .4 to .8 of its sides on a black picture of the old size (S2VOPD).

    The place is drawn, since the paper does not state one.
    """
    draw, x, y = rng.uniforms("shrink_on_black", *key, count=3)
    small = _scaled(image.convert("RGB"), _between(SHRINK, draw))
    black = black_like(image)
    black.paste(small, (round(x * (image.width - small.width)), round(y * (image.height - small.height))))
    return black


def one_sharp_region(image: Image.Image, *key: object) -> Image.Image:
    """The picture in the detail of .5 to .7 of its sides, but for one region, which stays sharp (S2VOPD).

    The size stays. The region has .15 to .35 of the area, the proportions of the picture and a drawn place;
    the paper does not say what its shares are of.
    """
    draw, size, x, y = rng.uniforms("one_sharp_region", *key, count=4)
    image = image.convert("RGB")
    result = _scaled(image, _between(CANVAS, draw)).resize(image.size, Image.Resampling.BICUBIC)
    side = math.sqrt(_between(SHARP, size))
    width, height = max(1, round(side * image.width)), max(1, round(side * image.height))
    left, top = round(x * (image.width - width)), round(y * (image.height - height))
    result.paste(image.crop((left, top, left + width, top + height)), (left, top))
    return result


def downscale_and_jitter(image: Image.Image, *key: object) -> Image.Image:
    """`downscale`, then brightness, contrast and saturation, each with probability one half (S2VOPD)."""
    image = downscale(image, *key)
    draws = rng.uniforms("jitter", *key, count=6).reshape(3, 2)
    changes = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for change, (chance, strength) in zip(changes, draws, strict=True):
        if chance < 0.5:
            image = change(image).enhance(_between(JITTER, strength))
    return image


def _between(bounds: tuple[float, float], draw: float) -> float:
    low, high = bounds
    return float(low + (high - low) * draw)


def _scaled(image: Image.Image, share: float) -> Image.Image:
    """The picture with this share of its sides, but no side below MIN_SIDE unless it already was."""
    share = max(share, min(1.0, MIN_SIDE / min(image.size)))
    width, height = (max(1, round(share * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


# ---- a part of a picture


def red_box(image: Image.Image, box: Box, width: int | None = None) -> Image.Image:
    """The picture with a red frame, drawn on the outermost `width` pixels of the box.

    Without a width it is BOX_WIDTH of the picture's long side, at least one pixel.
    """
    image = image.convert("RGB")
    left, top, right, bottom = _inside(box, image.size)
    line = max(1, round(BOX_WIDTH * max(image.size))) if width is None else width
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), outline=RED, width=line)
    return image


def crop_box(image: Image.Image, box: Box, factor: float = 2.0) -> Image.Image:
    """The part of the picture in the box, enlarged `factor` times (Vision-OPD).

    A box that is so small or so narrow that its crop could not be used is widened on both sides. A crop is
    enlarged less if it would exceed MAX_SIDE.
    """
    left, top, right, bottom = _inside(box, image.size)
    least = max(math.ceil(MIN_SIDE / factor), math.ceil(max(right - left, bottom - top) / MAX_RATIO))
    left, right = _widened(left, right, least, image.width)
    top, bottom = _widened(top, bottom, least, image.height)
    factor = min(factor, MAX_SIDE / max(right - left, bottom - top))
    size = (max(1, round(factor * (right - left))), max(1, round(factor * (bottom - top))))
    part = image.convert("RGB").crop((left, top, right, bottom))
    return part.resize(size, Image.Resampling.BICUBIC)


def _inside(box: Box, size: tuple[int, int]) -> Box:
    """The part of the box that is in a picture of this size. Raises ValueError if there is none."""
    left, top, right, bottom = box
    left, top, right, bottom = max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)
    if left >= right or top >= bottom:
        raise ValueError(f"the box {tuple(box)} has no pixel of a picture of {size[0]} x {size[1]}")
    return left, top, right, bottom


def _widened(low: int, high: int, least: int, side: int) -> tuple[int, int]:
    """An interval of at least `least` pixels, around the same middle, within a side of a picture."""
    missing = min(least, side) - (high - low)
    if missing <= 0:
        return low, high
    low = min(max(0, low - missing // 2), side - (high - low + missing))
    return low, low + min(least, side)


# ---- the words of a routing

WORDS: dict[str, Callable[..., Image.Image]] = {
    "black": black_like,
    "noise": noise_like,
    "blur": blurred,
    "downscale": downscale,
    "shrink_on_black": shrink_on_black,
    "one_sharp_region": one_sharp_region,
    "downscale_and_jitter": downscale_and_jitter,
}
SOURCES = ("column", "row")  # pictures from elsewhere, which the caller passes in


def picture_source(sees: Any) -> Any:
    """Which pictures `degraded` has to be given: `image`, `{"column": NAME}` or `{"row": "other"}`.

    >>> picture_source({"mask": {"column": "crop"}, "area": 0.3})
    {'column': 'crop'}
    """
    if isinstance(sees, Mapping):
        if "mask" in sees:
            return picture_source(sees["mask"])
        if any(name in sees for name in SOURCES):
            return dict(sees)
    return "image"


def degraded(images: Sequence[Image.Image], sees: Any, *, seed: int, sample_id: str) -> Pictures:
    """The pictures as a teacher or the student sees them.

    image                             as they are
    none                              no picture
    a word of WORDS                   each picture, changed by the function of that name
    {mask: PICTURE, area, seed}       `mask_rectangle` of what PICTURE shows; with `seed: null` another place
                                      for every picture and sample
    {one_of: [[share, PICTURE], ..]}  one of these with the probability `share`, otherwise as they are; drawn
                                      once for all pictures of a sample
    {column: NAME}, {row: other}      as they are: the caller has passed the pictures of that column or row

    Draws depend on `seed`, the sample and the place of the picture among those of the sample. Raises
    ConfigError for anything else.
    """
    return _degraded(tuple(images), sees, (seed, sample_id))


def _degraded(images: Pictures, sees: Any, key: tuple[object, ...]) -> Pictures:
    if isinstance(sees, str):
        if sees == "none":
            return ()
        if sees == "image":
            return _unchanged(images)
        if sees not in WORDS:
            words = ("image", "none", *WORDS)
            raise ConfigError(f"sees: {sees}: {nearest(sees, words)}choose one of {', '.join(words)}")
        # The first picture has no number in its key, so that noise is the same as without this function.
        return tuple(
            WORDS[sees](image, *key, *((place,) if place else ())) for place, image in enumerate(images)
        )
    match dict(sees) if isinstance(sees, Mapping) else sees:
        case {"mask": inner, **rest} if rest.keys() <= {"area", "seed"}:
            shown = _degraded(images, inner, key)
            area, fixed = rest.get("area", MASK_AREA), rest.get("seed", 0)
            if not isinstance(area, int | float) or not 0 < area <= 1:
                raise ConfigError(f"sees: mask: area={area} is not a share above 0 and at most 1")
            seeds = ((*key, place) if fixed is None else fixed for place in range(len(shown)))
            return tuple(mask_rectangle(image, area, own) for image, own in zip(shown, seeds, strict=True))
        case {"one_of": choices, **rest} if not rest and isinstance(choices, list | tuple):
            return _degraded(images, _drawn(choices, key), (*key, "one_of"))
        case {"column": str(), **rest} | {"row": "other", **rest} if not rest:
            return _unchanged(images)
    raise ConfigError(
        f"sees: {sees}: choose a word, or {{mask: PICTURE, area: SHARE, seed: NUMBER}}, "
        "{one_of: [[SHARE, PICTURE], ...]}, {column: NAME} or {row: other}"
    )


def _unchanged(images: Pictures) -> Pictures:
    return tuple(image if image.mode == "RGB" else image.convert("RGB") for image in images)


def _drawn(choices: Sequence[Any], key: tuple[object, ...]) -> Any:
    """One of the pictures of `one_of`, or `image` for the share that is left over."""
    if not choices or not all(isinstance(choice, list | tuple) and len(choice) == 2 for choice in choices):
        raise ConfigError(f"sees: one_of: {choices}: write pairs of a share and a picture")
    shares = [choice[0] for choice in choices]
    if any(not isinstance(share, int | float) or share < 0 for share in shares) or sum(shares) > 1 + 1e-9:
        raise ConfigError(f"sees: one_of: the shares {shares} must not be negative, nor sum to more than 1")
    for _, picture in choices:
        if picture_source(picture) != "image":
            raise ConfigError(
                f"sees: one_of: {picture}: a degradation of the picture itself, or another column for all: "
                "such a choice would need pictures that most samples do not use"
            )
    (draw,) = rng.uniforms("one_of", *key, count=1)
    for share, picture in choices:
        draw -= share
        if draw < 0:
            return picture
    return "image"
