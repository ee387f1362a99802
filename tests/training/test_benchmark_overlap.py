"""A run compares its training rows with its benchmarks, and leaves matching rows out if that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bench_fixtures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import distill_config
from PIL import Image

from vigos_cli.cli.commands.rollout import run as run_rollout
from vigos_cli.config.compose import job
from vigos_cli.data.load import load_data
from vigos_cli.evaluation import registry
from vigos_cli.supervision.batches import batch_indices
from vigos_cli.training import benchmark_overlap
from vigos_cli.training.benchmark_overlap import item_marks, without_benchmark_rows
from vigos_cli.training.distill import distill
from vigos_cli.utils.errors import ConfigError, UserError

ONE = ("trainer.steps=3", "trainer.batch=2", "bench.samples=0", "bench.max_new_tokens=4")


def photo(seed: int) -> Image.Image:
    numbers = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(numbers).resize((96, 72), Image.Resampling.BICUBIC)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Six training rows; the first is an item of the benchmark, the second shares only its picture."""
    for i in range(6):
        photo(i).save(tmp_path / f"{i}.png")
    for i in (0, 1, 20):
        photo(i).resize((48, 36)).save(tmp_path / f"{i}.jpg", quality=70)
    rows = [
        {"id": f"r{i}", "question": f"What is {i}?", "answer": "red", "images": [f"{i}.png"]}
        for i in range(6)
    ]
    items = [
        {"id": "q0", "question": "what is 0", "answer": "red", "images": ["0.jpg"]},
        {"id": "q1", "question": "And this?", "answer": "red", "images": ["1.jpg"]},
        {"id": "q2", "question": "What is 2?", "answer": "red", "images": ["20.jpg"]},
    ]
    train = write(tmp_path / "train.jsonl", rows)
    held = write(tmp_path / "held.jsonl", items)
    return ("data=jsonl", f"data.path={train}", "bench=plain", f"bench.path={held}", *ONE)


def compared(out: Path, *overrides: str) -> tuple[Any, dict[str, Any] | None]:
    config = distill_config(*overrides, f"out={out}")
    out.mkdir(exist_ok=True)
    return without_benchmark_rows(out, load_data(config.data, config.seed, config.limit), config)


def test_matching_rows_are_counted_and_named_but_kept(files, tmp_path, capsys):
    data, numbers = compared(tmp_path / "run", *files)
    assert len(data) == 6 and numbers
    expected = {"both": 1, "picture": 1, "question": 0, "look_alike": 0}
    assert numbers["matching_rows"] == numbers["benchmarks"]["plain"]["matching_rows"] == expected
    lines = [json.loads(line) for line in (tmp_path / "run" / "contamination.jsonl").read_text().splitlines()]
    assert [(line["row"], line["id"], line["item"], line["kind"]) for line in lines] == [
        (0, "r0", "q0", "both"),
        (1, "r1", "q1", "picture"),
    ]
    assert all(line["benchmark"] == "plain" and 0 <= line["distance"] <= 4 for line in lines)
    (line,) = capsys.readouterr().out.splitlines()
    assert "2 of 6 training rows are also in plain (picture and question 1, only the picture 1, " in line
    assert "data.decontaminate=true leaves them out" in line


def test_decontaminate_leaves_out_exactly_these_rows(files, tmp_path, capsys):
    data, numbers = compared(tmp_path / "run", *files, "data.decontaminate=true")
    assert [sample.id for sample in data] == ["r2", "r3", "r4", "r5"]
    assert numbers and numbers["rows_left_out"] == 2
    assert "; 2 rows are left out; see contamination.jsonl" in capsys.readouterr().out


def test_look_alikes_are_kept(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vigos_cli.data.contamination.looks_same", lambda ours, _: np.zeros(len(ours), bool))
    data, numbers = compared(tmp_path / "run", *files, "data.decontaminate=true")
    assert numbers and numbers["matching_rows"]["look_alike"] == 1
    assert "look alike, often by chance: 1 rows; see" in capsys.readouterr().out
    assert [sample.id for sample in data] == ["r1", "r2", "r3", "r4", "r5"]


def test_only_the_items_that_are_asked_count(files, tmp_path):
    data, numbers = compared(tmp_path / "run", *files, "data.decontaminate=true", "bench.tasks.plain.limit=1")
    assert [sample.id for sample in data] == ["r1", "r2", "r3", "r4", "r5"]
    assert numbers and numbers["benchmarks"]["plain"]["items"] == 1


def test_the_limit_counts_items_where_a_row_has_several(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    pq.write_table(pa.Table.from_pylist(bench_fixtures.VILP), file := tmp_path / "vilp.parquet")
    for limit in (2, None):
        task = bench_fixtures.task_of("vilp_f", path=str(file), limit=limit)
        marks, counts = item_marks(registry.get("vilp_f"), task)
        assert len(marks) == (limit or 3 * len(bench_fixtures.VILP))
        assert len({one.id for one in marks}) == len(marks) and counts["pictures"] >= len(marks)


def test_the_other_processes_leave_out_what_the_first_one_found(files, tmp_path, monkeypatch):
    monkeypatch.setattr("vigos_cli.utils.process_group.rank", lambda: 1)
    monkeypatch.setattr("vigos_cli.utils.process_group.gather", lambda own: [({"rows": 6}, [2, 4]), own])
    data, numbers = compared(tmp_path / "run", *files)
    assert [sample.id for sample in data] == ["r0", "r1", "r3", "r5"] and numbers == {"rows": 6}
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_a_short_run_compares_only_the_rows_that_it_uses(files, tmp_path):
    for seed in range(4):
        config = distill_config(*files, "trainer.steps=1", f"seed={seed}")
        used = batch_indices(config, 6, 0)
        _, numbers = compared(tmp_path / f"run{seed}", *files, "trainer.steps=1", f"seed={seed}")
        assert numbers and numbers["rows"] == 2
        expected = {kind: int(row in used) for row, kind in enumerate(("both", "picture"))}
        assert {kind: numbers["matching_rows"][kind] for kind in expected} == expected
    kept, numbers = compared(tmp_path / "run", *files, "trainer.steps=1", "data.decontaminate=true")
    assert numbers and numbers["rows"] == 6 and len(kept) == 4


def test_a_run_without_matches_says_so(files, tmp_path, capsys):
    write(tmp_path / "held.jsonl", [{"id": "q", "question": "?", "answer": "a", "image": "20.jpg"}])
    compared(tmp_path / "run", *files)
    assert capsys.readouterr().out == "contamination: 0 of 6 training rows are also in plain\n"


def test_a_benchmark_picture_that_cannot_be_read_is_counted(files, tmp_path):
    (tmp_path / "0.jpg").write_text("no picture")
    _, numbers = compared(tmp_path / "run", *files)
    assert numbers and numbers["pictures"]["plain"]["unreadable"] == 1
    assert numbers["benchmarks"]["plain"]["items"] == 2 and numbers["matching_rows"]["picture"] == 1


# ---------------------------------------------------------------- resuming


def test_a_resumed_run_leaves_out_the_same_rows_without_comparing_again(files, tmp_path, monkeypatch):
    out, keys = tmp_path / "run", (*files, "data.decontaminate=true")
    first, numbers = compared(out, *keys)
    assert not (out / "picture_hashes.jsonl").exists()
    (tmp_path / "held.jsonl").write_text("")  # whatever has become of the benchmark
    monkeypatch.setattr(benchmark_overlap, "table_marks", None)
    again, told = compared(out, *keys)
    assert [s.id for s in again] == [s.id for s in first] == ["r2", "r3", "r4", "r5"] and told == numbers


def test_a_comparison_that_was_interrupted_goes_on(files, tmp_path, monkeypatch):
    out, original, decoded = tmp_path / "run", benchmark_overlap.table_marks, []
    from vigos_cli.data import contamination

    def killed(*arguments: Any) -> Any:
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark_overlap, "table_marks", killed)
    with pytest.raises(KeyboardInterrupt):
        compared(out, *files)
    assert not (out / "contamination.json").exists()
    monkeypatch.setattr(benchmark_overlap, "table_marks", original)
    monkeypatch.setattr(contamination, "read_image", lambda *_: decoded.append(1))
    _, numbers = compared(out, *files)
    assert not decoded and numbers and numbers["matching_rows"]["both"] == 1


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_compared_again(files, tmp_path):
    out = tmp_path / "run"
    assert len(compared(out, *files)[0]) == 6
    assert len(compared(out, *files, "data.decontaminate=true")[0]) == 4
    assert len(compared(out, *files, "data.decontaminate=true", "limit=5")[0]) == 3


@pytest.mark.slow
def test_distill_trains_on_the_other_rows_and_refuses_to_resume_with_another_value(files, tmp_path):
    out, keys = f"out={tmp_path / 'run'}", (*files, "resume=auto")
    summary = distill(distill_config(*keys, out, "data.decontaminate=true", "trainer.batch=4"))
    assert summary and summary["contamination"]["rows_left_out"] == 2
    saved = json.loads((tmp_path / "run" / "contamination.json").read_text())
    assert saved["left_out"] == [0, 1]
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"data\.decontaminate=True, not False"):
        distill(distill_config(*keys, out, "trainer.batch=4"))


# ---------------------------------------------------------------- what cannot be compared


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    import huggingface_hub
    from datasets import config
    from huggingface_hub import constants

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.slow
def test_an_unreachable_benchmark_does_not_stop_the_run(files, tmp_path, no_network, capsys):
    keys = [key for key in files if not key.startswith("bench")]
    data, numbers = compared(tmp_path / "run", *keys, "bench=mathvista")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("contamination: mathvista was not compared with the training rows: AI4Math/")
    assert "Name or service not known" in line and line.endswith("bench.tasks.mathvista.path=FOLDER")
    assert len(data) == 6 and numbers and "mathvista" in numbers["not_compared"]
    with pytest.raises(UserError, match="decontaminate=true, but mathvista cannot be compared"):
        compared(tmp_path / "other", *keys, "bench=mathvista", "data.decontaminate=true")


def test_an_unreachable_benchmark_does_not_hide_another_one(files, tmp_path, no_network):
    task = "+bench.tasks={mathvista: {hub: AI4Math/MathVista, split: testmini}}"
    path = files[3].replace("bench.path", "bench.tasks.plain.path")
    keys = [key for key in files if not key.startswith("bench.path")]
    _, numbers = compared(tmp_path / "run", *keys, path, task)
    assert numbers and list(numbers["not_compared"]) == ["mathvista"]
    assert numbers["matching_rows"]["both"] == 1


@pytest.mark.slow
def test_drawn_pictures_are_not_compared(files, tmp_path, capsys):
    data = [key for key in files if key.startswith("data")]
    bench = [key for key in files if key.startswith("bench")]
    assert compared(tmp_path / "a", *data, "bench=priorworld")[1] is None
    assert compared(tmp_path / "b", *bench)[1] is None, "data=priorworld"
    assert compared(tmp_path / "c", *files, "routing=two_pass")[1] is None, "nothing is trained"
    assert capsys.readouterr().out == "" and not list((tmp_path / "a").iterdir())
    with pytest.raises(ConfigError, match="name another one with bench="):
        distill_config(*data, "bench=priorworld", "data.decontaminate=true")
    with pytest.raises(ConfigError, match="no benchmark has them"):
        distill_config(*bench, "data.decontaminate=true")


def test_a_run_without_any_row_left_is_refused(files, tmp_path):
    with pytest.raises(UserError, match="all training rows match"):
        compared(tmp_path / "run", *files, "data.decontaminate=true", "limit=2")


def test_vigos_rollout_refuses_the_key(files):
    data = [key for key in files if key.startswith("data")]
    with pytest.raises(ConfigError, match="a key of vigos distill"):
        run_rollout(job("rollout", [*data, "out=unused", "data.decontaminate=true"]))
