"""The check of a data set reports every bad row by its rule, keeps the good ones, and never crashes."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.check import DataReport, check
from vigos_cli.data.load import load_data
from vigos_cli.utils.errors import UserError


def stored(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


PNG = stored(Image.effect_noise((64, 48), 80).convert("RGB"))
GOOD = {"id": "good", "problem": "What?", "answer": "red", "image": "a.png"}

BAD: list[tuple[object, str]] = [  # kinds of bad rows, each with the rule that reports it
    (b"{not json", "not_json"),
    (b"[1, 2]", "not_json"),
    (b'"text"', "not_json"),
    (b"\xff\xfe{}", "not_json"),
    ({**GOOD, "problem": ["What?"]}, "not_text"),
    ({**GOOD, "answer": {"a": 1}}, "not_text"),
    (json.dumps({**GOOD, "answer": "\ud800"}).encode(), "not_text"),
    ({**GOOD, "problem": ""}, "missing_question"),
    ({**GOOD, "problem": None}, "missing_question"),
    ({**GOOD, "answer": ""}, "missing_answer"),
    ({**GOOD, "answer": None}, "missing_answer"),
    ({**GOOD, "answer": " \n"}, "missing_answer"),
    ({**GOOD, "image": None}, "missing_image"),
    ({**GOOD, "image": []}, "missing_image"),
    ({**GOOD, "image": [""]}, "missing_image"),
    ({**GOOD, "image": "nowhere.png"}, "image_not_found"),
    ({**GOOD, "image": "../secret.png"}, "image_outside"),
    ({**GOOD, "image": "cut.png"}, "image_unreadable"),
    ({**GOOD, "image": "text.png"}, "image_unreadable"),
    ({**GOOD, "image": "strip.png"}, "image_strip"),
    ({**GOOD, "image": ["a.png", "nowhere.png"]}, "image_not_found"),
    ({**GOOD, "image": {"bytes": base64.b64encode(PNG[:40]).decode()}}, "image_unreadable"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    (place / "a.png").write_bytes(PNG)
    (place / "cut.png").write_bytes(PNG[: len(PNG) // 2])
    (place / "text.png").write_text("not a picture")
    (place / "strip.png").write_bytes(stored(Image.new("L", (3000, 2))))
    (place / "dot.png").write_bytes(stored(Image.new("RGB", (1, 1))))
    (tmp_path / "secret.png").write_bytes(PNG)
    return place


def write(folder: Path, rows: list[object]) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder / "rows.jsonl"


def look(path: Path) -> DataReport:
    return check(load_data(DataConfig(name="jsonl", path=str(path)), 0))


def test_every_kind_of_bad_row_is_reported_with_its_row_number(folder):
    rows = [GOOD, *(row for row, _ in BAD), {**GOOD, "id": "other", "image": "dot.png"}]
    report = look(write(folder, rows))
    expected: dict[str, list[int]] = {}
    for index, (_, rule) in enumerate(BAD, start=1):
        expected.setdefault(rule, []).append(index)
    assert {rule: sorted(rows) for rule, rows in report.faults.items()} == expected
    assert report.checked == report.rows == len(rows)
    assert report.repairs == {"image_enlarged": 1}
    text = "\n".join(report.lines())
    assert f"{len(BAD)} of {len(rows)} rows cannot be used" in text
    assert all(f"{rule} {len(rows)}: row " in text for rule, rows in expected.items())


def test_nothing_is_reported_for_a_clean_file(folder):
    report = look(write(folder, [GOOD, {**GOOD, "id": "other"}]))
    assert report.lines() == [] and report.summary()["faults"] == {}


def test_rows_with_repeated_ids_are_counted_and_kept(folder):
    report = look(write(folder, [GOOD, GOOD, {**GOOD, "id": "other"}]))
    assert report.repeated_ids == 2 and not report.faults


def test_a_file_without_usable_rows_is_an_error_with_the_reason(folder):
    with pytest.raises(UserError, match=r"no row can be used\n  missing_answer 2: row 0, 1"):
        look(write(folder, [{**GOOD, "answer": ""}] * 2))


def test_a_random_part_of_a_large_file_is_checked_and_reported(folder):
    data = load_data(DataConfig(name="jsonl", path=str(write(folder, [GOOD] * 500))), 0)
    report = check(data, seconds=0)
    assert 0 < report.checked < 500
    assert f"checked a random {report.checked} of 500 rows" in report.lines()[-1]
