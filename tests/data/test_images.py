"""Any picture becomes usable or is left out with the name of a rule; no other error is raised."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vigos_cli.data.images import MAX_SIDE, MIN_SIDE, BadRow, as_seen, usable


def stored(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def use(data: bytes, counts: dict[str, int]) -> Image.Image:
    """Open a picture and make it usable. Some formats raise on opening; the loader turns that into a rule."""
    try:
        image = opened(data)
    except OSError as error:
        raise BadRow("image_unreadable") from error
    return usable(image, counts)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("size", "becomes", "counts"),
    [
        ((84, 84), (84, 84), {}),
        ((28, 28), (28, 28), {}),
        ((1, 1), (28, 28), {"image_enlarged": 1}),
        ((27, 54), (28, 56), {"image_enlarged": 1}),
        ((100, 1), (2800, 28), {"image_enlarged": 1}),
        ((10000, 2000), (4096, 819), {"image_reduced": 1}),
        ((200, 10000), (82, 4096), {"image_reduced": 1}),
        ((10000, 100), (4096, 41), {"image_reduced": 1}),
    ],
)
def test_pictures_are_resized_to_the_limits(size, becomes, counts):
    counted: dict[str, int] = {}
    image = usable(Image.new("RGB", size), counted)
    assert (image.size, image.mode, counted) == (becomes, "RGB", counts)


@pytest.mark.parametrize("size", [(10000, 10), (10, 10000), (101, 1), (1, 4000)])
def test_strips_are_left_out(size):
    counts: dict[str, int] = {}
    with pytest.raises(BadRow, match=r"^image_strip$"):
        usable(Image.new("RGB", size), counts)
    assert counts == {}


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_usable_pictures_fit_every_processor(width, height):
    try:
        image = usable(Image.new("L", (width, height)), {})
    except BadRow:
        assert max(width, height) > 100 * min(width, height)
        return
    assert min(image.size) >= MIN_SIDE and max(image.size) <= MAX_SIDE
    assert max(image.size) <= 101 * min(image.size)
    assert abs(image.width / image.height - width / height) <= 0.03 * width / height


def test_counts_are_added_up():
    counts = {"image_enlarged": 2, "other": 1}
    usable(Image.new("RGB", (2, 2)), counts)
    assert counts == {"image_enlarged": 3, "other": 1}


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F"]
)
def test_every_mode_becomes_rgb(mode):
    image = Image.new(mode, (30, 30))
    assert (usable(image, {}).mode, usable(image, {}).size) == ("RGB", (30, 30))


@pytest.mark.parametrize(("mode", "form"), [("CMYK", "JPEG"), ("L", "PNG"), ("P", "GIF"), ("1", "PNG")])
def test_colours_are_kept(mode, form):
    red = Image.new("RGB", (40, 40), (200, 30, 30)).convert(mode)
    image = usable(opened(stored(red, form)), {})
    expected = (77, 77, 77) if mode == "L" else red.convert("RGB").getpixel((20, 20))
    got = image.getpixel((20, 20))
    assert isinstance(got, tuple) and isinstance(expected, tuple)
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) <= 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(mode):
    """Drawings are often black on transparent; on a black background they would be invisible."""
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (10, 10, 20, 20))
    counts: dict[str, int] = {}
    flat = usable(opened(stored(image.convert(mode))), counts)
    assert flat.getpixel((2, 2)) == (255, 255, 255) and flat.getpixel((15, 15)) == (0, 0, 0)
    assert counts == {"image_on_white": 1}


def test_an_opaque_alpha_channel_changes_nothing():
    counts: dict[str, int] = {}
    image = noise(30, 30)
    assert usable(image.convert("RGBA"), counts).tobytes() == image.tobytes() and counts == {}


def test_16_bit_greys_keep_their_shades():
    ramp = np.linspace(0, 65535, 40 * 40).astype(np.uint16).reshape(40, 40)
    counts: dict[str, int] = {}
    image = usable(opened(stored(Image.fromarray(ramp))), counts)
    assert np.array_equal(np.asarray(image)[..., 0], np.round(ramp / 257)) and counts == {
        "image_grey_scaled": 1
    }


RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


@pytest.mark.parametrize(
    "greys",
    [
        (RAMP * 4095).astype(np.uint16),
        (RAMP * 1023).astype(np.uint16),
        (RAMP * 255).astype(np.uint16),
        RAMP.astype(np.float32),
        (RAMP * 255).astype(np.float32),
        (RAMP * 4095).astype(np.int32),
        (RAMP * 3e6).astype(np.int32),
        (RAMP * 4000 - 1000).astype(np.int32),  # Hounsfield units
        (RAMP * 2 - 1).astype(np.float32),
        (RAMP * 1e-6).astype(np.float32),
        (60000 + RAMP * 5000).astype(np.uint16),
        np.where(RAMP > 0.999, 65535, RAMP * 2000).astype(np.uint16),  # a few pixels far above the others
        np.where(RAMP > 0.999, np.nan, RAMP).astype(np.float32),
        np.where(RAMP > 0.999, np.inf, RAMP).astype(np.float32),
    ],
)
@pytest.mark.parametrize("form", ["TIFF", None])
def test_deep_greys_are_scaled_to_what_a_person_sees(greys, form):
    counts: dict[str, int] = {}
    image = Image.fromarray(greys)
    got = np.asarray(usable(opened(stored(image, form)) if form else image, counts))[..., 0].astype(int)
    assert counts == {"image_grey_scaled": 1}
    middle = got.ravel()[300:-300]
    assert (np.diff(middle) >= 0).all() and middle[-1] - middle[0] > 180
    assert abs(int(np.median(middle)) - 127) < 10


@pytest.mark.parametrize("stars", [1, 3, 40])
def test_a_few_bright_pixels_in_the_dark_are_seen(stars):
    greys = np.zeros((64, 64), np.uint16)
    greys.ravel()[:stars] = 700
    assert (np.asarray(usable(Image.fromarray(greys), {}))[..., 0].ravel()[:stars] == 255).all()


@pytest.mark.parametrize(
    ("value", "kind", "becomes"),
    [
        (0, np.uint16, 0),
        (65535, np.uint16, 255),
        (0.5, np.float32, 128),
        (-5, np.int32, 128),
        (10**6, np.int32, 128),
    ],
)
def test_a_picture_of_one_grey_stays_one_grey(value, kind, becomes):
    image = usable(Image.fromarray(np.full((30, 30), value, kind)), {})
    assert image.getcolors() == [(900, (becomes,) * 3)]


def test_a_picture_without_any_number_is_unreadable():
    with pytest.raises(BadRow, match=r"^image_unreadable$"):
        usable(Image.fromarray(np.full((30, 30), np.nan, np.float32)), {})


def test_the_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        counts: dict[str, int] = {}
        options = {"save_all": True, "append_images": frames[1:]} | (
            {"lossless": True} if form == "WEBP" else {}
        )
        image = usable(opened(stored(frames[0], form, **options)), counts)
        assert image.getpixel((5, 5)) == (255, 0, 0) and counts == {"image_first_frame": 1}, form


def test_the_colours_of_a_print_are_counted():
    counts: dict[str, int] = {}
    usable(opened(stored(Image.new("CMYK", (40, 40)), "JPEG")), counts)
    assert counts == {"image_cmyk": 1}


def test_damaged_exif_data_do_not_make_a_picture_unreadable():
    counts: dict[str, int] = {}
    data = stored(noise(40, 60), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert usable(opened(data), counts).size == (40, 60) and counts == {}


def test_a_photograph_is_rotated_by_its_exif_orientation():
    upright = Image.new("RGB", (40, 60), "white")
    upright.paste("black", (0, 0, 40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise to see it upright
    data = stored(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    assert opened(data).size == (60, 40)
    counts: dict[str, int] = {}
    image = usable(opened(data), counts)
    assert image.size == (40, 60) and counts == {"image_rotated": 1}
    top, bottom = image.convert("L").getpixel((20, 5)), image.convert("L").getpixel((20, 55))
    assert isinstance(top, int) and isinstance(bottom, int) and top < 20 and bottom > 235


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_a_truncated_picture_is_unreadable(form):
    data = stored(noise(90, 90), form)
    counts: dict[str, int] = {}
    for keep in (0.5, 0.9):
        part = data[: int(len(data) * keep)]
        with pytest.raises(BadRow, match=r"^image_unreadable$"):
            use(part, counts)
    assert counts == {}


def test_a_png_with_a_broken_chunk_is_unreadable():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 50, 50, 8, 2, 0, 0, 0))
    for body in (chunk(b"IDAT", b"junk"), chunk(b"IDAT", zlib.compress(b"\0" * 10)), b"\0\0\0\5IDA"):
        with pytest.raises(BadRow, match=r"^image_unreadable$"):
            use(head + body + chunk(b"IEND", b""), {})


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_raise_no_other_error(data):
    form = data.draw(st.sampled_from(("PNG", "JPEG", "GIF", "BMP")))
    raw = bytearray(stored(noise(40, 40).quantize(32) if form == "GIF" else noise(40, 40), form))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = Image.open(io.BytesIO(bytes(raw)))
    except Exception:
        return  # cannot be opened; the tests of the loader cover this
    try:
        assert usable(image, {}).mode == "RGB"
    except BadRow as rule:
        assert str(rule) in ("image_unreadable", "image_strip")


def test_a_page_shows_a_picture_as_the_model_sees_it():
    deep = Image.fromarray((RAMP * 4095).astype(np.uint16))
    assert as_seen(deep).tobytes() == usable(deep, {}).tobytes()
    clear = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    assert as_seen(clear) is clear  # the page has its own background
    assert as_seen(Image.fromarray(np.full((30, 30), np.nan, np.float32))).getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert as_seen(opened(stored(noise(60, 40), "JPEG", exif=exif))).size == (40, 60)
