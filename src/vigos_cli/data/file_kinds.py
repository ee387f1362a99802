"""Name a file or a folder that vigos cannot read as rows.

>>> refuse_other_kind("data.path", Path("train.csv"))
ConfigError: data.path=train.csv is a CSV file: ...; vigos reads JSON lines, a JSON array (.json, .jsonl) ...
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from vigos_cli.utils.errors import ConfigError

LINES, PARQUET = (".json", ".jsonl"), (".parquet",)
READ = "vigos reads JSON lines or a JSON array in UTF-8 (.json, .jsonl), and parquet files (.parquet)"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
LOOKED_AT = 10_000  # entries of a folder that are looked at

BEGINNINGS = (  # the first bytes of a file, and what it then is
    ((b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "text in UTF-32: save it as UTF-8"),
    ((b"\xff\xfe", b"\xfe\xff"), "text in UTF-16: save it as UTF-8"),
    ((b"\x1f\x8b",), "a gzip file: unpack it with gunzip"),
    ((b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!"), "a compressed file: unpack it"),
    (
        (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"),
        "a picture, and not rows",
    ),
    ((b"%PDF",), "a PDF file"),
    ((b"SQLite format 3",), "an SQLite database: export its table as JSON lines"),
    ((b"ARROW1",), "an Arrow file: save it as parquet"),
    (
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "a pickle file, which may run code",
    ),
)
ENDINGS = {
    ".csv": "a CSV file: save it as JSON lines or parquet",
    ".tsv": "a TSV file: save it as JSON lines or parquet",
    ".xlsx": "an Excel sheet: save it as JSON lines or parquet",
    ".xls": "an Excel sheet: save it as JSON lines or parquet",
    ".yaml": "a YAML file: save it as JSON lines",
    ".yml": "a YAML file: save it as JSON lines",
}


def refuse_other_kind(key: str, path: Path) -> None:
    """Raise ConfigError with one line if the file at `path` holds no rows that can be read.

    `key` is the name of the setting. Of a file only the beginning and the ending of its name are looked at.
    """
    kind = kind_of_file(path)
    if kind:
        raise ConfigError(f"{key}={path} is {kind}; {READ}")


def kind_of_file(path: Path) -> str | None:
    """What a file is, with what to do; None if it may hold JSON lines, a JSON array or a parquet table."""
    with path.open("rb") as file:
        start = file.read(512)
    ending = path.suffix.lower()
    if start.startswith(b"PK\x03\x04"):
        return ENDINGS[".xlsx"] if ending == ".xlsx" else "a zip file: unpack it"
    for beginnings, kind in BEGINNINGS:
        if start.startswith(beginnings):
            return kind
    if ending in ENDINGS:
        return ENDINGS[ending]
    if start.startswith(b"PAR1"):
        return None if ending in PARQUET else "a parquet file: end its name in .parquet"
    if ending in LINES:
        if b"\0" in start.lstrip().split(b"\n", 1)[0]:  # in a later line it is the mistake of a row
            return "text in UTF-16, or a binary file: save it as text in UTF-8"
        return None if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b"") else _text(start)
    if ending in PARQUET:
        return "no parquet file"
    if start.lstrip()[:1] == b"{":
        return "perhaps a file of JSON lines: end its name in .jsonl"
    return f"a file with the ending {ending!r}" if ending else "a file without an ending"


def _text(start: bytes) -> str | None:
    """The kind of a text that does not start like JSON; None if a later line may be JSON."""
    head = start.splitlines()[0].decode("utf-8", "replace")
    separator = next((mark for mark in ("\t", ",", ";") if head.count(mark) >= 1), "")
    if separator and '"' not in head and "{" not in start.decode("utf-8", "replace"):
        return f"a table with the separator {separator!r}: save it as JSON lines or parquet"
    return None


def refuse_folder_of_pictures(key: str, folder: Path) -> None:
    """Raise ConfigError with one line if a folder holds pictures and no file that could hold rows."""
    files = (Path(name) for _, _, names in os.walk(folder) for name in names)
    endings = [file.suffix.lower() for file in islice(files, LOOKED_AT)]
    pictures = sum(ending in PICTURES for ending in endings)
    if pictures and pictures == len(endings):
        raise ConfigError(
            f"{key}={folder} is a folder of pictures ({pictures}), without questions: write a JSON "
            f"lines file that names them in `images`; {READ}"
        )
