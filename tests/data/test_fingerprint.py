"""A run notices that its data have changed, and accepts the same data in another folder."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import distill_config
from PIL import Image

from vigos_cli.config.compose import job
from vigos_cli.config.schema import DataConfig
from vigos_cli.data.fingerprint import fingerprint
from vigos_cli.data.load import TableData, load_data
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.utils.errors import ConfigError


def stored(colour: str, side: int = 40) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "BMP")  # BMP: the size does not depend on the content
    return file.getvalue()


COLOURS = ("red", "blue", "green", "white")
ROWS = [
    {"id": f"r{i}", "question": f"What is {i}?", "answer": colour, "solution": "look"}
    for i, colour in enumerate(COLOURS)
]
Rows = list[dict[str, Any]]


def lines(folder: Path, rows: Rows, pictures: list[bytes]) -> Path:
    """JSON lines with pictures as files; the last row is not JSON."""
    rows = [{**row, "images": [f"{i}.bmp"]} for i, row in enumerate(rows)]
    for i, picture in enumerate(pictures):
        (folder / f"{i}.bmp").write_bytes(picture)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows) + "{broken\n")
    return folder / "rows.jsonl"


def array(folder: Path, rows: Rows, pictures: list[bytes]) -> Path:
    """A JSON array with its pictures inside."""
    texts = [base64.b64encode(picture).decode() for picture in pictures]
    rows = [{**row, "image": {"bytes": text}} for row, text in zip(rows, texts, strict=True)]
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder / "rows.json"


def parquet(folder: Path, rows: Rows, pictures: list[bytes]) -> Path:
    """A parquet file as on the hub, with pictures as bytes."""
    import datasets

    whole = [
        {**row, "images": [{"bytes": picture, "path": None}]}
        for row, picture in zip(rows, pictures, strict=True)
    ]
    features = {name: datasets.Value("string") for name in ROWS[0]}
    features |= {"images": datasets.List(datasets.Image())}
    datasets.Dataset.from_list(whole, features=datasets.Features(features)).to_parquet(
        folder / "rows.parquet"
    )
    return folder / "rows.parquet"


def pictured(folder: Path, rows: Rows, pictures: list[bytes]) -> Path:
    """A folder of pictures with a table that names them."""
    for i, picture in enumerate(pictures):
        (folder / f"{i}.bmp").write_bytes(picture)
    named = [{**row, "file_name": f"{i}.bmp"} for i, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    return folder


FORMS = [lines, array, parquet, pictured]


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    warnings.simplefilter("ignore")
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def make(folder: Path, form: Any, rows: Rows = ROWS, pictures: list[bytes] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if pictures is None:
        pictures = [stored(row["answer"]) for row in ROWS] + [stored("black")] * (len(rows) - len(ROWS))
    return form(folder, rows, pictures)


def taken(path: Path, limit: int | None = None) -> dict[str, Any]:
    from vigos_cli.data.fingerprint import fingerprint

    return fingerprint(load_data(DataConfig(name="jsonl", path=str(path)), 0, limit))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_fingerprint_shows_which_part_has_changed(tmp_path, form):
    def other(name: str, *args: Any) -> set[str]:
        found = taken(make(tmp_path / name, form, *args))
        return {key for key in first if first[key] != found[key]}

    first = taken(make(tmp_path / "first", form))
    colours = [stored(colour) for colour in COLOURS]
    assert other("same") == set(), "same data in another folder at another time"
    assert other("answer", [{**ROWS[0], "answer": "pink"}, *ROWS[1:]]) == {"texts"}
    assert other("solution", [*ROWS[:3], {**ROWS[3], "solution": "think"}]) == {"texts"}
    assert "texts" in other("order", [ROWS[1], ROWS[0], *ROWS[2:]])
    assert other("more", [*ROWS, {**ROWS[0], "id": "r4"}]) == {"rows", "texts", "pictures"}
    assert other("picture", ROWS, [stored("pink"), *colours[1:]]) == {"pictures"}, "same file size"
    assert other("larger", ROWS, [*colours[:3], stored("white", 44)]) == {"pictures"}
    assert other("swapped", ROWS, [colours[1], colours[0], *colours[2:]]) == {"pictures"}


@pytest.mark.parametrize("form", FORMS)
def test_the_fingerprint_covers_rows_whose_pictures_are_not_read(tmp_path, form, monkeypatch):
    """The fingerprint of these rows has the sizes of their pictures and the names of files."""
    from vigos_cli.data import fingerprint as module

    monkeypatch.setattr(module, "CONTENT", 0)
    first = taken(make(tmp_path / "first", form))
    assert taken(make(tmp_path / "same", form)) == first
    colours = [stored(colour) for colour in COLOURS]
    larger = taken(make(tmp_path / "larger", form, ROWS, [*colours[:3], stored("white", 44)]))
    assert larger["texts"] == first["texts"] and larger["pictures"] != first["pictures"]


def test_rows_beyond_the_limit_do_not_count(tmp_path):
    first = make(tmp_path / "a", lines, ROWS)
    more = make(tmp_path / "b", lines, [*ROWS, ROWS[0]])
    assert taken(first, 4) == taken(more, 4) != taken(first, 3)


def test_a_copy_is_the_same_data(tmp_path):
    from vigos_cli.data.fingerprint import claim_data

    make(tmp_path / "data", lines)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")  # a result: without one the data may change

    def claim(folder: Path) -> None:
        claim_data(tmp_path / "run", load_data(DataConfig(name="jsonl", path=str(folder / "rows.jsonl")), 0))

    claim(tmp_path / "data")
    recorded = (tmp_path / "run" / "data.json").read_bytes()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    for file in (tmp_path / "copy").iterdir():
        os.utime(file, (1, 1))
    claim(tmp_path / "copy")
    assert (tmp_path / "run" / "data.json").read_bytes() == recorded
    (tmp_path / "copy" / "0.bmp").write_bytes(stored("pink"))
    with pytest.raises(ConfigError, match="5 rows as before, but with other pictures"):
        claim(tmp_path / "copy")


def test_priorworld_has_no_record_and_an_older_format_is_not_compared(tmp_path):
    from vigos_cli.data.fingerprint import claim_data

    claim_data(tmp_path, PriorWorld(size=4))
    assert not list(tmp_path.iterdir())
    (tmp_path / "data.json").write_text('{"format": 0}')
    claim_data(tmp_path, load_data(DataConfig(name="jsonl", path=str(make(tmp_path / "data", lines))), 0))


# ---------------------------------------------------------------- whole runs

FEW = ("data=jsonl", "rollout.max_new_tokens=4", "resume=auto", "limit=4")


def change(file: Path) -> None:
    file.write_text(file.read_text().replace('"answer": "red"', '"answer": "pink"'))


@pytest.mark.slow
def test_distill_refuses_to_resume_with_other_data(tmp_path):
    from vigos_cli.training.distill import distill

    data, out = make(tmp_path / "data", lines), tmp_path / "run"
    bench = ("bench=priorworld", "bench.tasks.priorworld.rows=1", "bench.samples=0", "bench.max_new_tokens=4")
    learn = (
        *FEW,
        f"data.path={data}",
        "trainer.batch=2",
        "trainer.steps=2",
        "trainer.checkpoint_every=1",
        *bench,
    )
    config = distill_config(*learn, f"out={out}")
    distill(config)
    (out / "summary.json").unlink()
    shutil.rmtree(out / "checkpoints" / "step-000002")
    change(data)
    with pytest.raises(ConfigError) as caught:
        distill(config)
    said = str(caught.value)
    assert "\n" not in said and "the data have changed" in said and "other texts" in said and "out=" in said
    (out / "data.json").unlink()  # as in a run of a version without fingerprints
    assert distill(config)


def test_rollout_refuses_to_resume_with_other_data(tmp_path):
    from vigos_cli.analysis.rollout_run import sample
    from vigos_cli.utils.quiet import quieten

    quieten()
    data, out = make(tmp_path / "data", lines), tmp_path / "run"
    run = [*FEW, f"data.path={data}", f"out={out}"]
    first = sample(job("rollout", run))
    assert [line["id"] for line in sample(job("rollout", run))] == [line["id"] for line in first]
    change(data)
    with pytest.raises(ConfigError, match="the data have changed"):
        sample(job("rollout", run))


def test_a_run_starts_after_unusable_data_are_corrected(tmp_path):
    from vigos_cli.analysis.rollout_run import sample
    from vigos_cli.utils.errors import UserError
    from vigos_cli.utils.quiet import quieten

    quieten()
    data = make(tmp_path / "data", lines, [{**row, "answer": ""} for row in ROWS])
    run = [*FEW, f"data.path={data}", f"out={tmp_path / 'run'}"]
    with pytest.raises(UserError, match="no row can be used"):
        sample(job("rollout", run))
    make(tmp_path / "data", lines)
    assert len(sample(job("rollout", run))) == 4


def test_the_fingerprint_covers_conversations(tmp_path):
    def chat(answer: str, colour: str) -> dict[str, Any]:
        picture = base64.b64encode(stored(colour)).decode()
        parts = [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]
        turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
        (tmp_path / "rows.json").write_text(json.dumps([{"messages": turns}]))
        data = load_data(DataConfig(name="jsonl", path=str(tmp_path / "rows.json")), 0)
        assert isinstance(data, TableData)
        return fingerprint(data)

    first = chat("red", "red")
    assert chat("red", "red") == first
    assert chat("blue", "red")["texts"] != first["texts"]
    assert chat("red", "blue")["pictures"] != first["pictures"]
