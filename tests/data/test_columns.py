"""Further columns of a row: which forms are read, which are refused, and that nobody else notices them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.check import check, usable_sample
from vigos_cli.data.columns import NeededColumns, picture_column, text_column
from vigos_cli.data.fingerprint import claim_data, fingerprint, same_data
from vigos_cli.data.holdout import choose_holdout
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import TableData, load_data, of_every_run
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.utils.errors import ConfigError, UserError

BOTH = NeededColumns(texts=("cue",), pictures=("crop",))


def stored(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


RED = stored(Image.new("RGB", (40, 30), "red"))
BLUE = stored(Image.new("RGB", (50, 60), "blue"))
TEXT = base64.b64encode(BLUE).decode()
ROW: dict[str, Any] = {
    "question": "What?",
    "answer": "red",
    "images": "a.png",
    "cue": "Look left.",
    "crop": "b.png",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    (place / "a.png").write_bytes(RED)
    (place / "b.png").write_bytes(BLUE)
    (place / "broken.png").write_bytes(BLUE[:60])
    (tmp_path / "secret.png").write_bytes(RED)
    return place


def config_of(folder: Path, rows: list[dict[str, Any]], **columns: str) -> DataConfig:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataConfig(name="jsonl", path=str(path), columns=columns)


def table(
    folder: Path, rows: list[dict[str, Any]], needed: NeededColumns = BOTH, **columns: str
) -> TableData:
    data = load_data(config_of(folder, rows, **columns), 0, None, needed)
    assert isinstance(data, TableData)
    return data


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize(
    "crop",
    [
        "b.png",
        "./b.png",
        TEXT,
        f"data:image/png;base64,{TEXT}",
        {"path": "b.png"},
        {"bytes": TEXT},
        ["b.png"],
    ],
)
def test_a_column_has_pictures_in_every_form_of_the_images(folder, crop):
    sample = table(folder, [{**ROW, "crop": crop}])[0]
    (picture,) = picture_column(sample, "crop")
    assert picture.size == (50, 60) and picture.getpixel((0, 0)) == (0, 0, 255)
    assert text_column(sample, "cue") == "Look left."
    assert sample.images[0].size == (40, 30)


def test_a_column_can_have_several_pictures_in_order(folder):
    sample = table(folder, [{**ROW, "crop": ["b.png", "a.png"]}])[0]
    assert [image.size for image in picture_column(sample, "crop")] == [(50, 60), (40, 30)]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"crop": None}, "no_column_crop"),
        ({"crop": ""}, "no_column_crop"),
        ({"crop": []}, "no_column_crop"),
        ({"crop": {}}, "no_column_crop"),
        ({"crop": {"bytes": None, "path": None}}, "no_column_crop"),
        ({"crop": ["b.png", None]}, "column_crop_missing_image"),
        ({"crop": "nowhere.png"}, "column_crop_image_not_found"),
        ({"crop": "../secret.png"}, "column_crop_image_outside"),
        ({"crop": {"path": "../secret.png"}}, "column_crop_image_outside"),
        ({"crop": ["b.png", "../secret.png"]}, "column_crop_image_outside"),
        ({"crop": "broken.png"}, "column_crop_image_unreadable"),
        ({"crop": 7}, "column_crop_image_unreadable"),
        ({"cue": None}, "no_column_cue"),
        ({"cue": "  "}, "no_column_cue"),
        ({"cue": ["a", "b"]}, "column_cue_not_text"),
        ({"cue": "\ud800"}, "column_cue_not_text"),
    ],
)
def test_a_row_without_a_usable_value_is_counted_under_the_name_of_the_column(folder, change, rule):
    good, bad = ROW, {**ROW, **change}
    data = table(folder, [good, bad, {key: value for key, value in good.items() if key not in change}])
    with pytest.raises(BadRow, match=f"^{rule}$"):
        data[1]
    report = check(data)
    (name,) = change
    expected = {rule: [1], f"no_column_{name}": [2]} if rule != f"no_column_{name}" else {rule: [1, 2]}
    assert {key: sorted(rows) for key, rows in report.faults.items()} == expected
    assert any(rule in line and "row 1" in line for line in report.lines())


def test_a_number_is_a_text_and_absolute_paths_inside_the_folder_are_read(folder):
    sample = table(folder, [{**ROW, "cue": 12, "crop": str(folder / "b.png")}])[0]
    assert text_column(sample, "cue") == "12" and picture_column(sample, "crop")[0].size == (50, 60)


def test_pictures_of_a_column_are_repaired_and_counted_like_the_others(folder):
    (folder / "thin.png").write_bytes(stored(Image.new("RGB", (60, 10))))
    (folder / "clear.png").write_bytes(stored(Image.new("RGBA", (60, 60), (0, 0, 0, 0))))
    (folder / "strip.png").write_bytes(stored(Image.new("RGB", (500, 2))))
    data = table(folder, [{**ROW, "crop": ["thin.png", "clear.png"]}, {**ROW, "crop": "strip.png"}])
    counts: dict[str, int] = {}
    crops = picture_column(usable_sample(data, 0, counts), "crop")
    assert counts == {"image_enlarged": 1, "image_on_white": 1}
    assert (
        min(crops[0].size) >= 28 and crops[1].mode == "RGB" and crops[1].getpixel((0, 0)) == (255, 255, 255)
    )
    with pytest.raises(BadRow, match=r"^column_crop_image_strip$"):
        usable_sample(data, 1, {})


@pytest.mark.slow
def test_parquet_files_have_bytes_structs_and_lists(folder):
    datasets = pytest.importorskip("datasets")
    path = folder / "data.parquet"
    rows = {
        "question": ["What?", "What?", "What?"],
        "answer": ["red"] * 3,
        "images": [[{"bytes": RED, "path": None}]] * 3,
        "crop": [[{"bytes": BLUE, "path": None}], [{"bytes": b"no", "path": None}], None],
        "cue": ["Look left.", "x", "y"],
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(path))
    data = load_data(DataConfig(name="jsonl", path=str(path)), 0, None, BOTH)
    assert picture_column(data[0], "crop")[0].size == (50, 60) and text_column(data[0], "cue") == "Look left."
    assert check(data).faults == {"column_crop_image_unreadable": [1], "no_column_crop": [2]}
    assert isinstance(data, TableData) and set(fingerprint(data)["columns"]) == {"cue", "crop"}


# ---------------------------------------------------------------- names


def test_the_columns_that_every_sample_has(folder):
    row = {**ROW, "solution": "It is red."}
    sample = table(folder, [row, ROW], NeededColumns(texts=("answer", "question")))[0]
    assert [text_column(sample, name) for name in ("question", "answer", "solution")] == [
        "What?",
        "red",
        "It is red.",
    ]
    assert picture_column(sample, "images") == sample.images and dict(sample.fields) == {}
    with pytest.raises(BadRow, match=r"^no_column_crop$"):  # not needed, so not read
        picture_column(sample, "crop")
    with pytest.raises(BadRow, match=r"^no_column_cue$"):
        text_column(sample, "cue")
    data = table(folder, [row, ROW], NeededColumns(texts=("solution",)))
    assert check(data).faults == {"no_column_solution": [1]}


def test_a_text_is_not_a_picture_nor_a_picture_a_text(folder):
    sample = table(folder, [ROW])[0]
    with pytest.raises(BadRow, match="no_column_cue"):
        picture_column(sample, "cue")
    with pytest.raises(BadRow, match="no_column_crop"):
        text_column(sample, "crop")
    for texts, pictures in ((("crop",), ("crop",)), (("images",), ()), ((), ("question",))):
        with pytest.raises(ConfigError, match="as texts and as pictures"):
            NeededColumns(texts, pictures)


def test_an_optional_column_may_be_missing_but_not_broken(folder):
    needed = NeededColumns(("cue",), ("crop",), optional=("crop", "cue", "solution"))
    rows = [{**ROW, "crop": None, "cue": ""}, {**ROW, "crop": "../secret.png"}, ROW]
    data = table(folder, rows, needed)
    assert check(data).faults == {"column_crop_image_outside": [1]}
    with pytest.raises(BadRow, match=r"^no_column_crop$"):
        picture_column(data[0], "crop")
    assert picture_column(data[2], "crop")


def test_a_column_can_have_another_name_in_the_data(folder):
    row = {**ROW, "bbox_images": ["b.png"], "crop": "nowhere.png"}
    sample = table(folder, [row], crop="bbox_images")[0]
    assert picture_column(sample, "crop")[0].size == (50, 60)
    with pytest.raises(
        ConfigError, match=r"data\.columns\.corp: did you mean crop\? the names are .*, crop$"
    ):
        table(folder, [row], corp="bbox_images")
    config = config_of(folder, [row], crop="bbox_images", question="question")
    assert of_every_run(config).columns == {"question": "question"}
    assert load_data(of_every_run(config), 0)[0].question == "What?"


@pytest.mark.parametrize("needed", [BOTH, NeededColumns(("cue",), ("crop",), optional=("crop",))])
def test_data_without_the_column_are_refused_at_the_start(folder, needed):
    row = {key: value for key, value in ROW.items() if key != "crop"} | {"crops": "b.png"}
    with pytest.raises(ConfigError) as error:
        table(folder, [row], needed)
    assert str(error.value) == (
        "no row of the data has the column 'crop', which the routing needs: did you mean crops? the data has "
        "question, answer, images, cue, crops; if it has another name, set data.columns.crop=COLUMN"
    )
    with pytest.raises(ConfigError, match="no row of the data has the column 'x', which the routing needs"):
        table(folder, [ROW], crop="x")
    with pytest.raises(ConfigError, match="the column 'solution'"):
        table(folder, [ROW], NeededColumns(texts=("solution",)))


def test_a_column_that_only_a_late_row_has_is_found(folder):
    rows = [{key: value for key, value in ROW.items() if key != "crop"}] * 1001 + [ROW]
    assert picture_column(table(folder, rows)[1001], "crop")


def test_a_column_that_no_row_can_use_ends_the_check_with_its_rule(folder):
    with pytest.raises(UserError, match=r"no row can be used\n  no_column_crop 2: row 0, 1"):
        check(table(folder, [{**ROW, "crop": None}] * 2))


def test_priorworld_names_its_columns():
    config = DataConfig(size=4)
    world = load_data(
        config, 0, None, NeededColumns(("cue", "demonstration", "solution"), ("crop", "images"))
    )
    assert isinstance(world, PriorWorld) and text_column(world[0], "cue")
    with pytest.raises(
        ConfigError, match=r"no column of pictures 'crops', .* did you mean crop\? it has images"
    ):
        load_data(config, 0, None, NeededColumns(pictures=("crops",)))
    with pytest.raises(ConfigError, match="no column of texts 'crop'"):
        load_data(config, 0, None, NeededColumns(texts=("crop",)))


# ---------------------------------------------------------------- nobody else notices


def test_without_needed_columns_nothing_is_read(folder):
    rows = [{**ROW, "crop": "../secret.png", "cue": ["x"]}]
    data = table(folder, rows, NeededColumns())
    assert dict(data[0].fields) == {} and check(data).faults == {}
    assert "columns" not in fingerprint(data)
    plain = table(folder, rows).without_columns()
    assert plain[0] == data[0] or plain[0].question == data[0].question  # pictures are compared by identity
    assert fingerprint(plain) == fingerprint(data)


def test_the_rows_held_back_do_not_depend_on_the_needed_columns(folder):
    rows = []
    for number in range(20):
        (folder / f"{number}.png").write_bytes(stored(Image.new("RGB", (30 + number, 30))))
        rows.append({**ROW, "images": f"{number}.png", "crop": "b.png" if number < 2 else None})
    with_crop, without = (choose_holdout(table(folder, rows, n), 4) for n in (BOTH, NeededColumns()))
    assert with_crop.content() == without.content() and len(without.rows) == 4
    assert any(row.row > 1 for row in with_crop.rows)  # rows without a crop are held back too
    assert all(sample.images for sample in with_crop.samples())


def test_the_fingerprint_sees_a_change_in_a_needed_column_only(folder, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "metrics.jsonl").write_text("{}\n")
    data = table(folder, [ROW] * 3)
    claim_data(out, data)
    before, without = fingerprint(data), fingerprint(data.without_columns())
    assert same_data(out, data) and same_data(out, data.without_columns())

    changed = table(folder, [ROW, {**ROW, "cue": "Look right."}, ROW])
    now = fingerprint(changed)
    assert now["columns"]["crop"] == before["columns"]["crop"]
    assert now["columns"]["cue"] != before["columns"]["cue"]
    assert {**now, "columns": 0} == {**before, "columns": 0}
    assert fingerprint(changed.without_columns()) == without
    assert same_data(out, changed.without_columns())
    with pytest.raises(ConfigError, match="with other values of cue or in another order"):
        claim_data(out, changed)
    (folder / "b.png").write_bytes(stored(Image.new("RGB", (50, 60), "navy")))  # equal in size or not
    with pytest.raises(ConfigError, match="with other values of crop or in another order"):
        claim_data(out, table(folder, [ROW] * 3))
