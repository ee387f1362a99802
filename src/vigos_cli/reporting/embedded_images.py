"""Embed images in an HTML page as data URIs: reduced to a maximum size, each image once."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 512  # longest side of an embedded image, in pixels
LIGHT = 64 * 1024  # bytes; a PNG up to this size is embedded as it is, a larger one may become a JPEG


class ImageTable:
    """The distinct images of a page, as data URIs; rollouts of one prompt share their images."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._indices: dict[object, int] = {}

    def add(self, image: Image) -> int:
        """The index of this image in `uris`; an image that is not there yet is encoded and appended."""
        if id(image) not in self._indices:  # the caller keeps the image alive, so no other gets its id
            content = (image.mode, image.size, sha256(image.tobytes()).digest())
            if content not in self._indices:
                self._indices[content] = len(self.uris)
                self.uris.append(data_uri(image))
            self._indices[id(image)] = self._indices[content]
        return self._indices[id(image)]


def data_uri(image: Image) -> str:
    """The image, at most SIDE pixels on its longer side, as PNG, or as JPEG if that is much smaller."""
    image = shrunk(image)
    kind, content = "png", _encoded(image, "PNG")
    if len(content) > LIGHT and image.mode != "RGBA":  # JPEG has no transparency
        kind, content = min((kind, content), ("jpeg", _encoded(image, "JPEG")), key=lambda one: len(one[1]))
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def shrunk(image: Image) -> Image:
    """The image as a person sees it, reduced to at most SIDE pixels on its longer side."""
    from PIL.Image import Resampling

    from vigos_cli.data.images import as_seen

    image = as_seen(image)
    if (longer := max(image.size)) <= SIDE:
        return image
    size = (max(1, round(image.width * SIDE / longer)), max(1, round(image.height * SIDE / longer)))
    return image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)


def _encoded(image: Image, form: str) -> bytes:
    image.save(
        file := BytesIO(), form, quality=88, icc_profile=None
    )  # a colour profile may be larger than the image
    return file.getvalue()
