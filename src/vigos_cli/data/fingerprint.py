"""Fingerprint of a data set, to refuse to resume a run whose data have changed.

    claim_data(out, data)      # writes out/data.json, or compares it with the data as they are now

    {"format": 1, "rows": 47000, "texts": "5f2c...", "pictures": "a81b..."}

`texts` is a digest of the question, answer, solution and id of every row, and of its conversation if it has
one, in order. `pictures` is a digest of the size in bytes of every picture, of the path of a picture file
inside the folder of the data, and of every byte of the pictures of `CONTENT` random rows. So in a large data
set it may go unnoticed that a picture was replaced by one of the same size. The location and the dates of
files do not count, so a copy of a folder has the same fingerprint. A run that needs further columns has a
digest of each of them under `columns`, made in the same ways; who reads the data without them does not
compare these.

PriorWorld needs no fingerprint: it is drawn from the configuration, which `config.provenance` compares.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from vigos_cli.config.run_folder import has_results
from vigos_cli.data.chat_rows import CHATS
from vigos_cli.data.columns import listed
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import TableData
from vigos_cli.data.read_image import picture_bytes
from vigos_cli.data.rows import Arrow, Lines, Unreadable, readable
from vigos_cli.types import Sample
from vigos_cli.utils import rng
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import write_json

FORMAT = 2  # version of the fingerprint; a fingerprint of another version is not compared
FILE = "data.json"
TEXTS = ("question", "answer", "solution", "id")
CONTENT = 200  # rows whose pictures are read as a whole
LONGEST_PATH = 4096  # characters; a longer text is a picture in base64, not a path
BATCH = 1000  # rows of a table that are read together


def claim_data(out: Path, data: Sequence[Sample]) -> None:
    """Write the fingerprint of a run's data into its folder, or compare it with the one written there.

    Raises ConfigError if they differ. If the folder has no fingerprint yet (a run of an older version) or no
    result (a start that failed), the run continues, and the present data are recorded.
    """
    if not isinstance(data, TableData):
        return
    now, file = fingerprint(data), out / FILE
    then = json.loads(file.read_text()) if file.exists() and has_results(out) else None
    if then is None:
        write_json(file, now)
    elif then.get("format") == FORMAT and then != now:
        raise ConfigError(
            f"resume=auto: the data have changed since this run was started ({_change(then, now)}); "
            "restore them, or choose another folder with out="
        )


def same_data(out: Path, data: TableData) -> bool:
    """Whether a run's folder has the fingerprint of these data, or none that can be compared."""
    file = out / FILE
    then = json.loads(file.read_text()) if file.exists() else {}
    if then.get("format") != FORMAT:
        return True
    return {**then, "columns": None} == {**fingerprint(data.without_columns()), "columns": None}


def _change(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, in a few words."""
    if then["rows"] != now["rows"]:
        return f"it had {then['rows']} rows, now it has {now['rows']}"
    what = " and ".join(name for name in ("texts", "pictures") if then[name] != now[name])
    before, after = then.get("columns", {}), now.get("columns", {})
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    what = what or f"values of {', '.join(changed)}"
    return f"{now['rows']} rows as before, but with other {what} or in another order"


def fingerprint(data: TableData) -> dict[str, Any]:
    """The number of rows that a run uses, and the digests of their texts, pictures and further columns."""
    texts, pictures = hashlib.sha256(), hashlib.sha256()
    further = {name: hashlib.sha256() for name in data.needed.further}
    root = os.path.abspath(data.folder)
    for words, raw, values in _rows(data):
        texts.update(_bytes(words))
        pictures.update(_bytes([_outline(picture, root) for picture in listed(raw)]))
        for (name, digest), value in zip(further.items(), values, strict=True):
            is_text = name in data.needed.texts
            digest.update(
                _bytes(value if is_text else [_outline(picture, root) for picture in listed(value)])
            )
    for index in sorted(int(i) for i in rng.permutation("fingerprint", count=len(data))[:CONTENT]):
        pictures.update(_content(data, index))
        for name in data.needed.pictures:
            if name in further:
                further[name].update(_content(data, index, name))
    columns = {name: digest.hexdigest() for name, digest in further.items()}
    return {
        "format": FORMAT,
        "rows": len(data),
        "texts": texts.hexdigest(),
        "pictures": pictures.hexdigest(),
        **({"columns": columns} if columns else {}),
    }


def _bytes(value: Any) -> bytes:
    return json.dumps(value, default=str).encode() + b"\n"


# ---------------------------------------------------------------- every row


def _rows(data: TableData) -> Iterator[tuple[Any, Any, list[Any]]]:
    """The texts, the pictures and the further columns of every row; of bytes their number."""
    names = [*(data.columns[name] for name in TEXTS), data.also.get("question"), *CHATS, "system"]
    names = [name for name in dict.fromkeys(names) if name in data.rows.names]
    further = [data.columns[name] for name in data.needed.further]
    if isinstance(data.rows, Arrow):
        wanted = [*names, data.columns["images"], *further]
        for row in _arrow_rows(data.rows, wanted, len(data)):
            yield row[: len(names)], row[len(names)], row[len(names) + 1 :]
        return
    for row in islice(_json_rows(data.rows), len(data)):
        if isinstance(row, dict):
            values = [row.get(name) for name in further]
            yield [row.get(name) for name in names], data.value(row, "images"), values
        else:
            yield repr(row), None, [None] * len(further)


def _json_rows(lines: Lines) -> Iterator[Any]:
    """The rows of a JSON file, read once from start to end; a line that is not JSON is given as bytes."""
    if lines.array is not None:
        yield from lines.array
        return
    with lines.path.open("rb") as file:
        for line in file:
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield line


def _arrow_rows(rows: Arrow, names: Sequence[str], size: int) -> Iterator[list[Any]]:
    """The values of these columns in every row; None for a column that the table does not have."""
    there = [name for name in dict.fromkeys(names) if name in rows.names]
    table = rows.table.select_columns(there).select(range(size))
    for batch in table.iter(batch_size=BATCH):
        columns = {name: _column(batch, name) for name in there}
        missing = [None] * batch.num_rows
        yield from map(list, zip(*(columns.get(name, missing) for name in names), strict=True))


def _column(batch: Any, name: str) -> list[Any]:
    """A column of a pyarrow table as Python values; bytes are replaced by their number."""
    return [value for chunk in batch.column(name).chunks for value in _sizes(chunk)]


def _sizes(array: Any) -> list[Any]:
    """A pyarrow array as Python values; bytes are not read but replaced by their number."""
    import pyarrow as pa
    from pyarrow import compute

    kind = array.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return compute.call_function("binary_length", [array]).to_pylist()
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        columns = [_sizes(part) for part in array.flatten()]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        flat = iter(_sizes(array.flatten()))
        lengths = compute.call_function("list_value_length", [array]).to_pylist()
        return [None if n is None else list(islice(flat, n)) for n in lengths]
    try:
        return array.to_pylist()
    except (ValueError, OverflowError):  # values that have no form in Python
        return [_scalar(value) for value in array]


def _scalar(value: Any) -> Any:
    """A value of an Arrow table in Python's form, or the bytes of a text that is not UTF-8."""
    found = readable(value)
    if isinstance(found, Unreadable):
        return value.as_buffer().to_pybytes() if hasattr(value, "as_buffer") else "unreadable"
    return found


def _outline(raw: Any, root: str) -> Any:
    """What identifies a picture without reading it: the path and size of its file, or its number of bytes."""
    if isinstance(raw, Mapping):
        raw = raw.get("bytes") or raw.get("path")
    if not isinstance(raw, str) or len(raw) > LONGEST_PATH:
        return raw
    path = os.path.abspath(os.path.join(root, raw))
    if os.path.commonpath([root, path]) != root:
        return raw
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return raw
    return [os.path.relpath(path, root), status.st_size] if stat.S_ISREG(status.st_mode) else raw


# ---------------------------------------------------------------- some rows


def _content(data: TableData, index: int, column: str = "") -> bytes:
    """The digest of all bytes of the pictures of a row, or of those in a further column."""
    digest = hashlib.sha256()
    try:
        row = data.rows[index]
        pictures = listed(row.get(data.columns[column])) if column else data.exchange(row).images
        for raw in pictures:
            stored = picture_bytes(raw, data.folder)
            digest.update(stored if isinstance(stored, bytes) else _bytes(stored))
    except (BadRow, OSError):
        digest.update(b"unreadable")
    return digest.digest()
