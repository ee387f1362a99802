"""Decode a picture of a row: a path inside the folder of the data, bytes, base64, or a dict of these.

>>> read_image("pictures/cups.png", Path("data")).size
(640, 480)
>>> read_image({"bytes": png, "path": None}, Path("data")).size
(640, 480)

`vigos_cli.data.images` then makes it usable. Only formats that Pillow decodes itself are read: for PostScript
(EPS) it would start another program, which runs what the file says.
"""

from __future__ import annotations

import base64
import io
import os
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from vigos_cli.data.images import BadRow, check_size
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.machine_errors import OF_THE_MACHINE

FORMATS = (
    "BMP", "GIF", "JPEG", "PPM", "PNG", "WEBP", "TIFF", "AVIF", "JPEG2000",
    "DIB", "ICO", "DDS", "PCX", "PSD", "QOI", "SGI", "TGA",
)  # fmt: skip
MAX_BYTES = 1 << 30  # of a file; MAX_PIXELS pixels of 16 bits without compression have 0.7 GB
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `check_size` has a limit of its own
_folders: set[Path] = set()  # those that pictures were read from; if one is gone, no row of it is at fault


def read_image(raw: Any, folder: Path) -> Image.Image:
    """Decode a picture given as PIL image, bytes, base64, dict of bytes or path, or path inside `folder`."""
    raw = stored_picture(raw)
    if not raw:
        raise BadRow("missing_image")
    try:
        image = raw
        if not isinstance(raw, Image.Image):
            image = Image.open(io.BytesIO(picture_bytes(raw, folder)), formats=FORMATS)
        check_size(image)
        image.load()
    except (BadRow, UserError):
        raise
    except Image.DecompressionBombError as error:
        raise BadRow("image_too_large") from error
    except Exception as error:  # the decoders of Pillow raise many types of errors
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:  # the row would be left out silently
            raise
        raise BadRow("image_unreadable") from error
    return image


def picture_bytes(raw: Any, folder: Path) -> bytes:
    """The bytes of a file inside `folder` or of a base64 text; any other value is returned as it is.

    Of a dict its bytes or its path are used.
    """
    raw = stored_picture(raw)
    if not isinstance(raw, str):
        return raw
    root = Path(os.path.abspath(folder))
    path = Path(os.path.abspath(root / raw.removeprefix("file://")))  # without `..`
    inside = path.is_relative_to(root)
    if inside and _is_file(path):  # no pipe and no device
        if path.stat().st_size > MAX_BYTES:
            raise BadRow("image_too_large")
        _folders.add(path.parent)
        return path.read_bytes()
    if path.parent in _folders and not path.parent.is_dir():
        raise UserError(f"data: the folder of pictures {path.parent} was removed while the run used it")
    try:
        return base64.b64decode("".join(raw.split("base64,")[-1].split()), validate=True)
    except ValueError as error:
        raise BadRow("image_not_found" if inside else "image_outside") from error


def _is_file(path: Path) -> bool:
    """Whether this is an ordinary file. Raises UserError if this user may not look into its folder."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError as error:
        raise UserError(f"data: this user has no permission to read the folder {path.parent}") from error
    except (OSError, ValueError):  # a base64 text may be too long for a name
        return False


def stored_picture(raw: Any) -> Any:
    """The bytes or the path of a picture that is given as a dict; any other value as it is."""
    return (raw.get("bytes") or raw.get("path")) if isinstance(raw, Mapping) else raw
