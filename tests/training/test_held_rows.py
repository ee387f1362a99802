"""A run with bench=holdout: the rows are asked before and after, never trained on, and found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import distill_config

from vigos_cli.config.compose import job
from vigos_cli.data.load import TableData, load_data
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.evaluation.held_back import held_rows, run_folder
from vigos_cli.supervision import batches
from vigos_cli.training.distill import distill
from vigos_cli.training.held_rows import LEAST, hold_back, rows_in_share
from vigos_cli.utils.errors import ConfigError

SMALL = ("trainer.steps=2", "trainer.batch=4", "rollout.max_new_tokens=8", "bench.max_new_tokens=8")


def own_rows(folder: Path, size: int = 120) -> tuple[str, ...]:
    """A file of rows made from pictures of PriorWorld, each picture in two rows."""
    folder.mkdir(parents=True, exist_ok=True)
    world, rows = PriorWorld(size=size), []
    for i in range(size):
        world[i // 2].images[0].save(folder / f"{i // 2}.png")
        rows.append({"question": world[i].question, "answer": world[i].answer, "images": [f"{i // 2}.png"]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "data=jsonl", f"data.path={folder / 'rows.jsonl'}"


def table(config: Any) -> TableData:
    data = load_data(config.data, config.seed, config.limit)
    assert isinstance(data, TableData)
    return data


# ---------------------------------------------------------------- which benchmark a run has


@pytest.mark.slow
def test_own_data_choose_holdout_and_priorworld_keeps_its_own():
    def names(*overrides: str) -> set[str]:
        return set(distill_config(*overrides).bench.tasks)

    assert names() == {"priorworld"} == names("model=qwen2vl", "data=priorworld")
    assert names("model=qwen2vl") == {"holdout"} == names("data=jsonl", "data.path=x")
    assert names("model=custom", "model.path=x", "data=hub", "data.path=a/b") == {"holdout"}
    assert names("model=qwen2vl", "bench=mathvista") == {"mathvista"}
    assert set(job("eval", ["out=unused", "model=qwen2vl"]).bench.tasks) == {"holdout"}


def test_holdout_needs_own_rows(tmp_path):
    config = distill_config("bench=holdout")
    with pytest.raises(ConfigError, match="needs rows of your own"):
        hold_back(tmp_path, load_data(config.data, 0), config)
    with pytest.raises(ConfigError, match="needs rows of your own"):
        held_rows(job("eval", ["out=unused", "bench=holdout"]))


# ---------------------------------------------------------------- how many rows are asked


def test_the_share_of_the_run_bounds_the_answers():
    config = distill_config("model=qwen2vl", "trainer.steps=100", "bench.batch=32")
    rollouts = 100 * 32
    asked = rows_in_share(config, 100)  # each row before and after
    assert 2 * asked <= 0.1 * (rollouts + 2 * asked) < 2 * (asked + 1)

    def change(**keys: Any) -> float:
        return rows_in_share(replace(config, bench=replace(config.bench, **keys)), 100)

    assert change(share=0.2) > 2 * asked and change(share=1.0) == float("inf")
    assert change(samples=1) == asked // 2
    assert change(max_new_tokens=2 * config.bench.max_new_tokens) == asked // 2
    assert change(batch=8) == asked // 2, "rollout.batch is 16, so each answer takes twice as long"
    often = replace(config, trainer=replace(config.trainer, eval_every=34))
    assert rows_in_share(often, 100) == asked // 2, "two evaluations more; none at the last step"


@pytest.mark.slow
def test_the_note_says_how_many_rows_are_asked_and_why(tmp_path):
    own = own_rows(tmp_path / "data")

    def held(name: str, *overrides: str) -> Any:
        config = distill_config(*own, *overrides)
        (tmp_path / name).mkdir()
        return hold_back(tmp_path / name, table(config), config)

    whole = held("a", "trainer.steps=1000")
    assert len(whole.rows) == whole.asked == 24 and whole.note == ""
    part = held("b", "trainer.steps=11", "bench.share=0.1")
    assert part.asked == 19 and part.rows == whole.rows
    assert part.note.startswith("19 of the 24 rows held back are asked, so that") and "10%" in part.note
    least = held("c", "trainer.steps=1")
    assert least.asked == LEAST and "the least number; so the evaluations take more than 10%" in least.note
    assert held("d", "trainer.steps=1000", "bench.tasks.holdout.limit=5").asked == 5
    assert len(held("e", "bench.tasks.holdout.rows=6").rows) == 6


@pytest.mark.slow
def test_the_number_is_written_once(tmp_path):
    own = own_rows(tmp_path / "data")
    config = distill_config(*own, "trainer.steps=11")
    data = table(config)
    first = hold_back(tmp_path, data, config)
    slower = distill_config(*own, "trainer.steps=11", "bench.batch=1", "resume=auto")
    assert rows_in_share(slower, 11) == 0 and hold_back(tmp_path, data, slower) == first
    longer = distill_config(*own, "trainer.steps=12")  # a start that failed leaves the file of other settings
    again = hold_back(tmp_path, data, longer)
    assert first and again and first.asked < again.asked


# ---------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, tuple[str, ...], dict[str, Any], set[int]]:
    """A run, its data, its summary, and the rows of the file that it trained on."""
    folder = tmp_path_factory.mktemp("held")
    own, used, prepare = own_rows(folder / "data"), set(), batches.prepare

    def spy(data: Any, places: Any, *others: Any) -> Any:
        places = list(places)
        used.update(data.indices[index] for _, index in places)
        return prepare(data, places, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "prepare", spy)
        enough = ("trainer.steps=40", "trainer.batch=4", *SMALL[2:], "trainer.eval_every=39")
        summary = distill(distill_config(*own, *enough, f"out={folder / 'run'}"))
    assert summary
    return folder / "run", own, summary, used


def ids(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "verdicts.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_same_rows_are_asked_before_and_after_and_none_is_trained_on(run):
    out, _, summary, used = run
    content = json.loads((out / "holdout.json").read_text())
    asked = [row["id"] for row in content["rows"]][: content["asked"]]
    assert len(content["rows"]) == 24 > content["asked"] == LEAST
    assert ids(out / "before" / "holdout") == ids(out / "after" / "holdout") == asked
    assert not used & set(content["left_out"]) and used == set(range(120)) - set(content["left_out"])
    assert summary["contamination"]["benchmarks"]["holdout"]["items"] == LEAST
    assert summary["contamination"]["matching_rows"]["both"] == 0
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    (line,) = [line["eval"] for line in lines if "eval" in line]
    assert line["benches"]["holdout"]["accuracy"]["n"] == LEAST


@pytest.mark.slow
def test_the_summary_has_every_figure_with_its_interval_and_the_paired_test(run):
    out, _, summary, _ = run
    figures = summary["after"]["benches"]["holdout"]
    for name in ("accuracy", "valid", "tokens", "cut_off"):
        assert {"mean", "low", "high", "n"} <= figures[name].keys(), name
    assert figures["valid"]["n"] == LEAST and "leakage" in figures
    assert "rows held back are asked" in figures["note"]
    (difference,) = summary["differences"]
    assert difference["benchmark"] == "holdout" and difference["items"] == LEAST and 0 <= difference["p"] <= 1
    assert 0 < summary["evaluation_share"] < 1
    card = (out / "adapter" / "README.md").read_text()
    assert "| holdout, accuracy | greedy |" in card and "| holdout, answers in the required format |" in card


@pytest.mark.slow
def test_eval_finds_all_rows_of_the_run_by_the_adapter(run, tmp_path):
    out, own, _, _ = run
    config = job("eval", ["bench=holdout", f"adapter.path={out / 'adapter'}", f"out={tmp_path}", *SMALL[3:]])
    scores = evaluate(config)
    content = json.loads((out / "holdout.json").read_text())
    assert ids(tmp_path) == [row["id"] for row in content["rows"]]
    assert "note" not in scores["holdout"]
    assert run_folder(str(out / "checkpoints" / "step-000040")) == out
    again = held_rows(job("eval", ["bench=holdout", *own, f"adapter.path={out / 'adapter'}", "out=unused"]))
    assert [one.row for one in again.rows] == [row["row"] for row in content["rows"]]


@pytest.mark.slow
def test_eval_warns_if_the_run_did_not_hold_these_rows_back(run, tmp_path):
    out, _, _, _ = run
    adapter = f"adapter.path={out / 'adapter'}"
    other = own_rows(tmp_path / "other", 200)  # its first 120 rows are those of the run

    def note(*overrides: str) -> str:
        return held_rows(job("eval", ["bench=holdout", "out=unused", *overrides])).note

    assert "did not hold back" in note(*other, adapter)
    assert note(*other) == ""
    bare = tmp_path / "bare"
    (bare / "adapter").mkdir(parents=True)
    assert "was not found" in note(*other, f"adapter.path={bare / 'adapter'}")
    (bare / "config.json").write_text((out / "config.json").read_text())
    assert "held no rows back" in note(f"adapter.path={bare / 'adapter'}")


@pytest.mark.slow
def test_a_run_that_goes_on_from_an_adapter_warns_too(run, tmp_path):
    out, _, _, _ = run
    config = distill_config(*own_rows(tmp_path / "other", 200), f"adapter.path={out / 'adapter'}")
    held = hold_back(tmp_path, table(config), config)
    assert held and "may have been trained on them" in held.note


@pytest.mark.slow
def test_eval_refuses_data_that_have_changed(run, tmp_path):
    out, _, _, _ = run
    moved = own_rows(tmp_path / "data")[1].removeprefix("data.path=")
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    saved = json.loads((out / "config.json").read_text())
    saved["data"]["path"] = moved
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    for name in ("holdout.json", "data.json"):
        (tmp_path / "run" / name).write_text((out / name).read_text())
    config = job("eval", ["bench=holdout", f"adapter.path={tmp_path / 'run' / 'adapter'}", "out=unused"])
    assert len(held_rows(config).rows) == 24
    saved["data"]["columns"] = {"crop": "bbox"}  # a column that only the routing of the run needed
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    fingerprint = json.loads((out / "data.json").read_text())
    (tmp_path / "run" / "data.json").write_text(json.dumps(fingerprint | {"columns": {"crop": "5f2c"}}))
    assert len(held_rows(config).rows) == 24
    lines = Path(moved).read_text().splitlines(keepends=True)
    Path(moved).write_text("".join(lines[1:]))
    with pytest.raises(ConfigError, match="the data have changed since"):
        held_rows(config)
    Path(moved).unlink()
    with pytest.raises(ConfigError, match=r"no such file.*these are the data of"):
        held_rows(config)


@pytest.mark.slow
def test_a_copy_of_a_held_out_picture_in_training_is_found(tmp_path):
    """The same picture in another file format is another row for the choice, but not for the comparison."""
    from PIL import Image

    from vigos_cli.training.benchmark_overlap import without_benchmark_rows

    own = own_rows(tmp_path / "data")
    config = distill_config(*own, "trainer.steps=100", "trainer.batch=4")
    held = hold_back(tmp_path, table(config), config)
    assert held
    file = tmp_path / "data" / "rows.jsonl"
    lines = file.read_text().splitlines()
    copied = json.loads(lines[held.rows[0].row])
    with Image.open(tmp_path / "data" / copied["images"][0]) as image:
        image.save(tmp_path / "data" / "copy.bmp")
    free = next(row for row in range(120) if row not in held.left_out)
    lines[free] = json.dumps(copied | {"images": ["copy.bmp"]})
    file.write_text("\n".join(lines) + "\n")
    (tmp_path / "again").mkdir()
    data = table(config)
    held = hold_back(tmp_path / "again", data, config)
    kept, numbers = without_benchmark_rows(tmp_path / "again", data, config, held)
    assert held and numbers and len(kept) == 120 - len(held.left_out)
    if free not in held.left_out:  # the digest of the copy may itself be among the first
        assert numbers["matching_rows"]["both"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("changed", [(), ("routing=two_pass",), ("diagnostic=description_only",)])
def test_rows_without_pictures_are_asked_as_in_training(tmp_path, changed):
    own = own_rows(tmp_path / "data", 60)
    file = tmp_path / "data" / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[::2]:
        row["images"] = []
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = (
        "bench=holdout",
        *own,
        "data.text_only=keep",
        f"out={tmp_path / 'out'}",
        "bench.max_new_tokens=60",
    )
    scores = evaluate(job("eval", [*keys, *changed]))["holdout"]
    texts = {}
    for line in (tmp_path / "out" / "responses.jsonl").read_text().splitlines():
        response = json.loads(line)
        texts[int(response["sample_id"]) % 2 == 0] = response["text"]
        assert response["described"] == (int(response["sample_id"]) % 2 == 1)
    assert texts[True].startswith("<think>") and texts[False].startswith("<description>")
    assert scores["valid"]["mean"] > 0.5
