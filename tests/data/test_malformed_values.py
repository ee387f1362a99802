"""Odd values, pictures and files become a named fault of their row, or one line that says what is wrong."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.fingerprint import fingerprint
from vigos_cli.data.images import MAX_SIDE, BadRow, usable
from vigos_cli.data.load import TableData, load_data
from vigos_cli.data.read_image import read_image
from vigos_cli.utils.errors import UserError

GOOD = {"question": "What?", "answer": "red", "images": "a.png"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "data" / "a.png")
    return tmp_path / "data"


def load(path: Path) -> TableData:
    data = load_data(DataConfig(name="jsonl", path=str(path)), 0)
    assert isinstance(data, TableData)
    return data


def write(path: Path, *lines: Any) -> Path:
    """JSON lines; bytes are written unchanged."""
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    return path


def fault(data: TableData, index: int) -> str:
    with pytest.raises(BadRow) as caught:
        data[index]
    return str(caught.value)


def said(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity"])
def test_an_infinite_number_is_no_answer(folder, number):
    line = json.dumps({**GOOD, "answer": "@"}).replace('"@"', number).encode()
    assert fault(load(write(folder / "rows.jsonl", GOOD, line)), 1) == "not_text"


def test_a_nul_byte_in_a_later_line_is_a_mistake_of_that_row(folder):
    data = load(write(folder / "rows.jsonl", GOOD, b"\0\0\0", GOOD))
    assert fault(data, 1) == "not_json" and data[2].answer == "red"


def test_a_folder_of_lines_with_several_types_keeps_its_texts(folder):
    """`datasets` stores such columns as JSON: the question would have quotes around it."""
    write(
        folder / "train.jsonl",
        {**GOOD, "images": ["a.png"]},
        {"question": {"a": 1}, "answer": 5, "images": [{"path": "a.png"}]},
    )
    data = load(folder)
    assert (data[0].question, data[0].answer, len(data[0].images)) == ("What?", "red", 1)
    assert fault(data, 1) == "not_text"


# ---------------------------------------------------------------- files


def test_an_array_is_read_whatever_the_ending_and_half_an_array_is_named(folder):
    array = json.dumps([GOOD, GOOD]).encode()
    assert len(load(write(folder / "rows.jsonl", array))) == 2
    for name in ("half.json", "half.jsonl"):
        assert "it starts with [, but is no JSON array" in said(write(folder / name, array[:-9]))
    assert fault(load(write(folder / "mixed.jsonl", b"[1, 2]", GOOD)), 0) == "not_json"


def test_a_pipe_and_a_long_name_are_refused(folder):
    os.mkfifo(folder / "rows.jsonl")
    assert "is a pipe or a device" in said(folder / "rows.jsonl")
    assert "File name too long" in said(folder / ("x" * 5000 + ".jsonl"))


def table(folder: Path, **columns: Any) -> Path:
    values = {name: [value, value] for name, value in GOOD.items()} | columns
    pq.write_table(pa.table(values), folder / "rows.parquet")
    return folder / "rows.parquet"


def invalid_utf8() -> Any:
    offsets = pa.py_buffer(struct.pack("<iii", 0, 2, 3))
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"\xffab")])


def test_a_value_without_a_form_in_python_affects_only_its_row(folder):
    data = load(table(folder, more=pa.array([2**55, 0], pa.timestamp("ms"))))
    assert [sample.answer for sample in data] == ["red", "red"]  # nobody reads this column
    assert (
        fault(load(table(folder, images=pa.array([2**55, 0], pa.timestamp("ms")))), 0) == "image_unreadable"
    )
    data = load(table(folder, question=invalid_utf8()))
    assert fault(data, 0) == "not_text" and data[1].question == "b"
    other = load(table(folder, question=["a", "b"]))
    assert fingerprint(data)["texts"] != fingerprint(other)["texts"]


def test_the_cause_is_named_if_a_table_cannot_be_read(folder):
    assert "has no rows" in said(table(folder, **{name: pa.array([], pa.string()) for name in GOOD}))
    content = table(folder).read_bytes()
    (folder / "rows.parquet").write_bytes(content[:30] + b"\xff" * 30 + content[60:])
    assert "An error occurred" not in said(folder / "rows.parquet")


# ---------------------------------------------------------------- pictures


def header(width: int, height: int) -> bytes:
    """A PNG that says this size and has hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (50_000, 50_000)])
def test_a_picture_with_too_many_pixels_is_not_decoded(folder, size):
    with pytest.raises(BadRow, match=r"^image_too_large$"):
        read_image(header(*size), folder)


def test_a_huge_file_is_not_read(folder):
    with (folder / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadRow, match=r"^image_too_large$"):
        read_image("huge.png", folder)


def test_postscript_is_not_run(folder, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: Image.new("RGB", (40, 40)).im)
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n{} loop\n%%EOF\n"
    with pytest.raises(BadRow, match=r"^image_unreadable$"):
        read_image(program, folder)


def test_a_large_deep_picture_is_reduced_before_its_greys_are_scaled(monkeypatch):
    sizes, counts = [], {}
    scaled = usable.__globals__["_scaled"]
    monkeypatch.setitem(
        usable.__globals__, "_scaled", lambda greys: sizes.append(greys.shape) or scaled(greys)
    )
    ramp = np.linspace(0, 65535, 2 * MAX_SIDE * 100).reshape(100, 2 * MAX_SIDE).astype(np.uint16)
    image = usable(Image.fromarray(ramp), counts)
    assert sizes == [(50, MAX_SIDE)] and image.size == (MAX_SIDE, 50)
    assert counts == {"image_grey_scaled": 1, "image_reduced": 1}
    greys = np.asarray(image)[..., 0].astype(int)
    assert greys[0].min() < 5 and greys[-1].max() > 250
