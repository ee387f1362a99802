"""Rows become samples or a BadRow with its rule; mistakes in the configuration give one line."""

from __future__ import annotations

import base64
import gzip
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.images import BadRow, usable
from vigos_cli.data.load import load_data
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.data.read_image import read_image
from vigos_cli.utils.errors import ConfigError, UserError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def stored(image: Image.Image = PICTURE, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


PNG = stored()
SMALL = stored(Image.new("RGB", (30, 30), "red"))  # its base64 text is short enough to be a path
GOOD = {"question": "What?", "answer": "red", "images": "a.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    (place / "images").mkdir(parents=True)
    (place / "a.png").write_bytes(PNG)
    (place / "images" / "b.jpg").write_bytes(stored(form="JPEG"))
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "data-2").mkdir()
    (tmp_path / "data-2" / "secret.png").write_bytes(PNG)
    return place


def write(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    """Write JSON lines; rows that are texts or bytes are written unchanged."""
    texts = [row if isinstance(row, str | bytes) else json.dumps(row) for row in rows]
    lines = [text.encode() if isinstance(text, str) else text for text in texts]
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder / name


def load(path: Path, limit: int | None = None, **columns: str):
    return load_data(DataConfig(name="jsonl", path=str(path), columns=columns), 0, limit)


# ---------------------------------------------------------------- pictures


def test_a_picture_can_be_a_path_bytes_base64_or_dict(folder):
    text = base64.b64encode(PNG).decode()
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    ways = [
        PICTURE,
        PNG,
        text,
        wrapped,
        f"data:image/png;base64,{text}",
        {"bytes": PNG, "path": None},
        {"bytes": PNG, "path": "nowhere.png"},
        {"bytes": None, "path": "a.png"},
        {"path": "a.png"},
        {"bytes": text},
        "a.png",
        "./a.png",
        "images/../a.png",
        str(folder / "a.png"),
    ]
    for way in ways:
        assert read_image(way, folder).convert("RGB").tobytes() == PICTURE.tobytes(), way
    assert read_image("images/b.jpg", folder).size == (50, 40)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP"])
@pytest.mark.parametrize("side", [1, 5, 12, 30, 60])
def test_a_short_base64_text_is_not_read_as_a_path(folder, form, side):
    """Some are shorter than the longest path, some contain slashes; those of JPEGs start with one."""
    data = stored(PICTURE.resize((side, side)), form)
    assert read_image(base64.b64encode(data).decode(), folder).size == (side, side)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (None, "missing_image"),
        ("", "missing_image"),
        (b"", "missing_image"),
        ({}, "missing_image"),
        ({"bytes": None, "path": None}, "missing_image"),
        ("nowhere.png", "image_not_found"),
        ("images", "image_not_found"),  # a folder
        ("a.png\0", "image_not_found"),
        ("x" * 5000 + ".png", "image_not_found"),
        ("\ud800.png", "image_not_found"),
        ("bildé.png", "image_not_found"),
        ("https://example.org/a.png", "image_not_found"),
        (b"not a picture", "image_unreadable"),
        (base64.b64encode(b"not a picture").decode(), "image_unreadable"),
        (PNG[:-50], "image_unreadable"),
        (PNG[:20], "image_unreadable"),
        (stored(form="JPEG")[:-200], "image_unreadable"),
        (base64.b64encode(PNG[: len(PNG) // 2]).decode(), "image_unreadable"),
        (5, "image_unreadable"),
        ([137, 80], "image_unreadable"),
        ({"bytes": 3}, "image_unreadable"),
        ("../secret.png", "image_outside"),
        ("images/../../secret.png", "image_outside"),
        ("../data-2/secret.png", "image_outside"),  # starts with the name of the data folder
        ("../../../../../../etc/passwd", "image_outside"),
        ("/etc/passwd", "image_outside"),
        ({"path": "../secret.png"}, "image_outside"),
    ],
)
def test_a_value_that_is_not_a_picture_is_reported_at_once(folder, raw, rule):
    with pytest.raises(BadRow) as caught:
        read_image(raw, folder)
    assert str(caught.value) == rule


def test_a_path_outside_the_folder_is_not_read(folder, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or PNG)
    for raw in ("../secret.png", str(tmp_path / "secret.png"), "~/a.png", "../../etc/passwd"):
        with pytest.raises(BadRow):
            read_image(raw, folder)
    assert read == []
    monkeypatch.chdir(folder)
    read_image("a.png", Path("."))
    assert read == [folder / "a.png"]


def test_symbolic_links_inside_the_folder_are_followed(folder, tmp_path):
    (folder / "elsewhere").symlink_to(tmp_path / "data-2")
    assert read_image("elsewhere/secret.png", folder).size == PICTURE.size


def test_a_truncated_file_is_reported_when_its_row_is_read(folder):
    for name, data in (("cut.png", PNG[:-100]), ("cut.jpg", stored(form="JPEG")[:-100])):
        (folder / name).write_bytes(data)
        data = load(write(folder, [{**GOOD, "images": name}, GOOD]))
        with pytest.raises(BadRow, match=r"^image_unreadable$"):
            data[0]
        assert data[1].images[0].size == PICTURE.size


def test_a_decompression_bomb_is_not_decoded(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # fewer than half of PICTURE's
    with pytest.raises(BadRow, match=r"^image_too_large$"):
        read_image("a.png", folder)


def test_a_wide_picture_is_read_and_a_strip_is_not_used(folder):
    Image.new("RGB", (10000, 300), "red").save(folder / "wide.png")
    Image.new("L", (10000, 10)).save(folder / "strip.png")
    Image.new("RGBA", (1, 1)).save(folder / "dot.png")
    names = ("wide.png", "strip.png", "dot.png")
    data = load(write(folder, [{**GOOD, "images": [name]} for name in names]))
    counts: dict[str, int] = {}
    assert usable(data[0].images[0], counts).size == (4096, 123)
    assert usable(data[2].images[0], counts).size == (28, 28)
    with pytest.raises(BadRow, match=r"^image_strip$"):
        usable(data[1].images[0], counts)
    assert counts == {"image_reduced": 1, "image_enlarged": 1, "image_on_white": 1}


# ---------------------------------------------------------------- rows

BAD: list[tuple[Any, str]] = [
    ("{not json", "not_json"),
    ('{"question": "a", "answer"', "not_json"),
    ("[1, 2]", "not_json"),
    ('"text"', "not_json"),
    ("null", "not_json"),
    ("[" * 100_000, "not_json"),
    ('{"question": ' + "9" * 5000 + "}", "not_json"),
    (b'{"question": "\xff\xfe"}', "not_json"),
    ({}, "missing_question"),
    ({**GOOD, "question": None}, "missing_question"),
    ({**GOOD, "question": "  "}, "missing_question"),
    ({**GOOD, "question": ["What?"]}, "not_text"),
    ({**GOOD, "answer": {"text": "red"}}, "not_text"),
    ({**GOOD, "solution": [1]}, "not_text"),
    ({**GOOD, "id": {}}, "not_text"),
    ('{"question": "\\ud800", "answer": "a", "images": "a.png"}', "not_text"),
    ({**GOOD, "images": [None]}, "missing_image"),
    ({**GOOD, "images": ["a.png", None]}, "missing_image"),
    ({**GOOD, "images": ""}, "missing_image"),
    ({**GOOD, "images": [["a.png"]]}, "image_unreadable"),
    ({**GOOD, "images": 7}, "image_unreadable"),
    ({**GOOD, "images": {"url": "a.png"}}, "missing_image"),
    ({**GOOD, "images": ["a.png", "b.png"]}, "image_not_found"),
    ({**GOOD, "images": "../secret.png"}, "image_outside"),
    ({**GOOD, "images": "data.jsonl"}, "image_unreadable"),
]


def test_bad_rows_are_reported_and_do_not_affect_other_rows(folder):
    rows = [row for bad, _ in BAD for row in (GOOD, bad)]
    data = load(write(folder, rows))
    assert len(data) == 2 * len(BAD)
    for i, (_, rule) in enumerate(BAD):
        assert data[2 * i].answer == "red"
        with pytest.raises(BadRow) as caught:
            data[2 * i + 1]
        assert str(caught.value) == rule, BAD[i]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("a.png"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("bytes", "path")), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(("question", "answer", "images", "solution", "id")), anything))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_row_is_a_sample_or_a_bad_row(folder, row):
    data = load(write(folder, [GOOD, row]))
    try:
        sample = data[1]
    except BadRow:
        return
    assert all(isinstance(text, str) for text in (sample.id, sample.question, sample.answer))
    assert all(isinstance(image, Image.Image) for image in sample.images)


def test_a_sample_has_the_values_of_its_row(folder):
    rows = [
        {"question": " <image>How many? ", "answer": 3, "images": ["a.png"], "solution": "1+2", "id": 17},
        {"question": "<image>", "answer": None, "images": None},
        {"question": "Q", "answer": float("nan"), "images": [], "solution": None, "id": None},
        {"question": "Q", "answer": True, "images": ["a.png", {"path": "images/b.jpg"}], "solution": " "},
    ]
    first, second, third, fourth = load(write(folder, rows))
    assert (first.id, first.question, first.answer, first.solution) == ("17", "How many?", "3", "1+2")
    assert [image.size for image in first.images] == [(50, 40)]
    assert (second.id, second.question, second.answer, second.images) == ("1", "<image>", "", ())
    assert (third.id, third.answer, third.images, third.solution) == ("2", "", (), None)
    assert (fourth.answer, len(fourth.images), fourth.solution) == ("True", 2, None)


def test_indexing_and_limits(folder):
    path = write(folder, [{**GOOD, "id": i} for i in range(5)])
    assert [sample.id for sample in load(path)] == list("01234")
    assert [sample.id for sample in load(path, limit=2)] == ["0", "1"]
    assert len(load(path, limit=9)) == 5
    for index in (2, -1, 5):
        with pytest.raises(IndexError):
            load(path, limit=2)[index]


def test_all_forms_of_a_json_file_are_read(folder):
    marked = write(folder, [b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "", "  ", GOOD], "bom.jsonl")
    assert [sample.id for sample in load(marked)] == ["0", "1"]
    ends = folder / "ends.jsonl"
    ends.write_bytes(json.dumps(GOOD).encode() + b"\r\n" + json.dumps(GOOD).encode())  # no last line feed
    assert len(list(load(ends))) == 2
    array = folder / "array.JSON"
    array.write_text(json.dumps([GOOD, 3, GOOD], indent=2))
    data = load(array)
    assert len(data) == 3 and data[2].answer == "red"
    with pytest.raises(BadRow, match=r"^not_json$"):
        data[1]
    assert len(load(write(folder, [GOOD, GOOD], "lines.json"))) == 2


# ---------------------------------------------------------------- columns and paths


def mistake(path: Path, **columns: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, None, **columns)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_columns_can_have_other_names(folder):
    row = {"problem": "What?", "answer": "red", "image": "a.png", "key": 4, "why": "so"}
    sample = load(write(folder, [row]), id="key", solution="why")[0]
    assert (sample.question, sample.id, sample.solution, len(sample.images)) == ("What?", "4", "so", 1)
    both = {**GOOD, "problem": "no", "image": "nowhere"}
    assert load(write(folder, [both]))[0].question == "What?"
    assert load(write(folder, [both]), question="problem")[0].question == "no"


def test_a_missing_column_is_reported_with_the_nearest_name(folder):
    path = write(folder, [{"questions": "What?", "answer": "red", "images": "a.png"}])
    said = mistake(path)
    assert "'question'" in said and "data.columns.question" in said and "did you mean questions?" in said
    said = mistake(path, question="qestions")
    assert "data.columns.question=qestions" in said and "did you mean questions?" in said
    assert "questions, answer, images" in mistake(path, question="zzz")
    assert "data.columns.solution=why" in mistake(write(folder, [GOOD]), solution="why")
    said = mistake(write(folder, [GOOD]), qestion="question")
    assert "data.columns.qestion" in said and "did you mean question?" in said


def test_a_column_that_only_later_rows_have_is_found(folder):
    data = load(write(folder, ["{bad", {"images": "a.png"}, GOOD]))
    assert data[2].question == "What?"


def test_a_missing_file_is_reported_with_the_nearest_name(folder):
    write(folder, [GOOD], "training.jsonl")
    said = mistake(folder / "trainin.jsonl")
    assert "trainin.jsonl: there is no such file" in said and "did you mean training.jsonl?" in said
    assert "there is no such file" in mistake(folder / "no" / "such.jsonl")


def test_files_without_rows_are_refused(folder):
    for name, content in (("a.jsonl", ""), ("b.jsonl", "\n \n"), ("c.json", "[]"), ("d.jsonl", "text\n")):
        (folder / name).write_text(content)
        assert "no rows" in mistake(folder / name)


def test_a_file_of_another_kind_is_named(folder):
    text = json.dumps(GOOD)
    kinds = {
        "rows.csv": (b"question,answer\na,b\n", "a CSV file"),
        "rows.tsv": (b"question\tanswer\na\tb\n", "a TSV file"),
        "table.jsonl": (b"question,answer,images\nWhat?,red,a.png\n", "a table with the separator ','"),
        "utf16.jsonl": (text.encode("utf-16"), "text in UTF-16"),
        "utf16le.jsonl": (text.encode("utf-16-le"), "text in UTF-16"),
        "utf32.jsonl": (text.encode("utf-32"), "text in UTF-32"),
        "rows.jsonl.gz": (gzip.compress(text.encode()), "a gzip file"),
        "named.jsonl": (gzip.compress(text.encode()), "a gzip file"),
        "rows.xlsx": (b"PK\3\4rest", "an Excel sheet"),
        "rows.zip": (b"PK\3\4rest", "a zip file"),
        "a.png": (PNG, "a picture"),
        "rows.txt": (text.encode(), "perhaps a file of JSON lines"),
        "rows.pkl": (b"\x80\x04}.", "a pickle file"),
        "rows.bin": (b"PAR1....PAR1", "a parquet file: end its name in .parquet"),
        "rows.parquet": (b"question,answer\n", "no parquet file"),
        "rows": (b"hello", "a file without an ending"),
    }
    for name, (content, kind) in kinds.items():
        (folder / name).write_bytes(content)
        said = mistake(folder / name)
        assert f"data.path={folder / name} is {kind}" in said and "vigos reads JSON lines" in said
    assert "is a folder of pictures (1), without questions" in mistake(folder / "images")


def test_the_embedded_data_set():
    data = load_data(DataConfig(size=40, conflict=1.0), 7, limit=10)
    assert isinstance(data, PriorWorld)
    assert (data.split, len(data), data.seed, data.conflict) == ("train", 10, 7, 1.0)
    assert len(load_data(DataConfig(size=40), 0)) == 40


# ---------------------------------------------------------------- parquet


@pytest.fixture
def parquet(folder, monkeypatch):
    """Write a parquet file as on the hub, with pictures as an Image feature."""
    warnings.simplefilter("ignore")
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder.parent / "cache")
    datasets.disable_progress_bars()

    def make(rows: list[dict], images: Any) -> Path:
        features = datasets.Features(
            {"question": datasets.Value("string"), "answer": datasets.Value("string"), "images": images}
        )
        table = datasets.Dataset.from_list(rows, features=features)
        path = folder / "rows.parquet"
        table.to_parquet(path)
        return path

    return make


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_a_broken_picture_in_a_parquet_file_affects_only_its_row(parquet, several):
    import datasets

    blobs = [PNG, PNG[:-100], b"junk", None]
    pictures = [blob and {"bytes": blob, "path": "x.png"} for blob in blobs]
    rows = [{**GOOD, "images": [p] if several else p} for p in pictures]
    path = parquet(rows, datasets.List(datasets.Image()) if several else datasets.Image())
    data = load(path)
    assert len(data) == 4 and data[0].images[0].tobytes() == PICTURE.tobytes()
    for index in (1, 2):
        with pytest.raises(BadRow, match=r"^image_unreadable$"):
            data[index]
    if several:
        with pytest.raises(BadRow, match=r"^missing_image$"):
            data[3]
    else:
        assert data[3].images == ()
    assert len(load(path, limit=1)) == 1


@pytest.mark.slow
def test_a_file_that_is_not_parquet_is_a_one_line_error(folder, parquet):
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError) as caught:
        load(folder / "broken.parquet")
    assert "\n" not in str(caught.value) and "broken.parquet" in str(caught.value)


def test_conversations_in_a_parquet_file(folder, parquet, tmp_path):
    """Parquet fills missing fields with nulls, and holds pictures as bytes."""
    import datasets

    turns = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "Is "}, {"type": "image"}]}],
    ]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "red"}]}
    rows = [{"messages": [*turn, answer], "images": [{"bytes": PNG, "path": None}]} for turn in turns]
    path = folder / "chat.parquet"
    datasets.Dataset.from_list(rows).to_parquet(path)
    first, second = load(path)
    assert (first.question, first.answer, first.images[0].size) == ("What?", "red", (50, 40))
    assert (second.question, second.places) == ("Is <image>", (3,))


@pytest.mark.parametrize("name", ["a b.parquet", "a[1].parquet", "a%20b=c,d@e.parquet", "a*.parquet"])
def test_a_parquet_file_with_any_name_is_read(folder, parquet, name):
    import datasets

    path = parquet([{**GOOD, "images": {"bytes": PNG, "path": None}}], datasets.Image())
    assert load(path.rename(folder / name))[0].answer == "red"
