"""Pictures that are damaged, hostile or only unusual, each with what may come back.

broken, size, counts, rules = PICTURES["cut.png"]     # rules: left out; size and counts: used after a repair
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

RED = (255, 0, 0)
UNREADABLE = ("image_unreadable",)


@dataclass(frozen=True, slots=True)
class Picture:
    """The bytes of a file. With `rules` its row must be left out; else it must become red, of this size."""

    data: bytes
    rules: tuple[str, ...] = ()
    size: tuple[int, int] = (40, 40)
    counts: tuple[str, ...] = ()
    colour: tuple[int, int, int] = RED


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def plain(mode: str = "RGB", size: tuple[int, int] = (40, 40), colour: object = "red") -> Image.Image:
    """A picture of one colour."""
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def noise(size: tuple[int, int] = (90, 90)) -> Image.Image:
    """A picture whose file is long enough to be cut anywhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its length and its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes, extra: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    """A PNG with any header and any data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pixels(width: int, height: int, of_pixel: bytes = b"\xff\0\0") -> bytes:
    """The compressed data of a PNG of one colour, which are much smaller than the picture."""
    packer, row = zlib.compressobj(1), b"\0" + of_pixel * width
    return b"".join(packer.compress(row) for _ in range(height)) + packer.flush()


@cache
def pictures() -> dict[str, Picture]:
    """All pictures by the names of their files."""
    tiny, bomb = zlib.compress(b"\0" * 10), zlib.compress(b"A" * (100 << 20), 1)
    small = pixels(40, 40)
    whole = {form: saved(noise(), form) for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")}
    found = {
        f"cut-{int(100 * share)}.{form.lower()}": Picture(data[: int(len(data) * share)], UNREADABLE)
        for form, data in whole.items()
        for share in (0.1, 0.5, 0.95)
    }
    frames = [plain(), plain(colour="blue")]
    for form, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})):
        data = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
        found[f"animated.{form.lower()}"] = Picture(data, counts=("image_first_frame",))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = plain("RGBA", colour=(0, 0, 0, 0))
    palette = clear.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    deep = Image.fromarray(np.full((40, 40), 65535, np.uint16))
    white = (255, 255, 255)
    found |= {
        "empty.png": Picture(b"", ("image_unreadable", "missing_image")),
        "text.png": Picture(b"These are words and no picture.\n" * 20, UNREADABLE),
        "page.jpg": Picture(b"<!DOCTYPE html><html><body>404</body></html>", UNREADABLE),
        "drawing.svg": Picture(b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', UNREADABLE),
        "program.eps": Picture(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n{} loop\n%%EOF\n", UNREADABLE
        ),
        "signature.png": Picture(b"\x89PNG\r\n\x1a\n", UNREADABLE),
        "checksum.png": Picture(whole["PNG"][:200] + b"\xff\xff\xff" + whole["PNG"][203:], UNREADABLE),
        "a-jpeg.png": Picture(saved(plain(), "JPEG", quality=95)),  # Pillow looks at the content
        "a-png.jpg": Picture(saved(plain())),
        "prints.jpg": Picture(
            saved(plain("CMYK", colour=(0, 255, 255, 0)), "JPEG", quality=95), counts=("image_cmyk",)
        ),
        "clear.png": Picture(saved(clear), counts=("image_on_white",), colour=white),
        "palette.png": Picture(
            saved(palette, transparency=palette.info["transparency"]),
            counts=("image_on_white",),
            colour=white,
        ),
        "deep.png": Picture(saved(deep), counts=("image_grey_scaled",), colour=white),
        "turned.jpg": Picture(
            saved(plain(size=(60, 40)), "JPEG", exif=exif, quality=95),
            size=(40, 60),
            counts=("image_rotated",),
        ),
        "broken-exif.jpg": Picture(
            saved(plain(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", quality=95)
        ),
        "dot.png": Picture(saved(plain(size=(1, 1))), size=(28, 28), counts=("image_enlarged",)),
        "strip.png": Picture(saved(plain(size=(1, 5000))), ("image_strip",)),
        "photo.png": Picture(
            png(4200, 2800, pixels(4200, 2800)), size=(4096, 2731), counts=("image_reduced",)
        ),
        "header-50000.png": Picture(png(50_000, 50_000, tiny), ("image_too_large",)),
        "header-2e9.png": Picture(
            png(2**31 - 1, 2**31 - 1, tiny), ("image_too_large", "image_unreadable", "image_strip")
        ),
        "header-9000.png": Picture(png(9000, 9000, tiny), UNREADABLE),
        "header-0.png": Picture(png(0, 40, tiny), UNREADABLE),
        "header-16bit.png": Picture(png(30_000, 30_000, tiny, bits=16, colour=0), ("image_too_large",)),
        "bomb-10000.png": Picture(png(10_000, 10_000, pixels(10_000, 1000)), ("image_too_large",)),
        "bomb.bmp": Picture(
            saved(plain(), "BMP")[:18] + struct.pack("<ii", 40_000, 40_000) + saved(plain(), "BMP")[26:],
            ("image_too_large",),
        ),
        "ztxt.png": Picture(png(40, 40, small, chunk(b"zTXt", b"k\0\0" + bomb)), UNREADABLE),
        "itxt.png": Picture(png(40, 40, small, chunk(b"iTXt", b"k\0\1\0\0\0" + bomb)), UNREADABLE),
        "iccp.png": Picture(png(40, 40, small, chunk(b"iCCP", b"k\0\0" + bomb)), UNREADABLE),
        "more-data.png": Picture(png(40, 40, pixels(40, 400_000))),  # more rows than the header says
    }
    return found
