"""Benchmark rows from files, folders and the hub; pictures in every form; one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_fixtures as data
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bench_fixtures import BLUE, RED, colour_of, picture, stored

from vigos_cli.evaluation import benchmark_rows, registry
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, UserError


def write_lines(path: Path, items: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in items))
    return path


def write_parquet(path: Path, items: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(items), path)
    return path


def saved(items: list[dict[str, Any]], **columns: Any) -> list[dict[str, Any]]:
    """Rows as JSON can hold them."""
    return [{**{k: v for k, v in row.items() if "image" not in k}, **columns} for row in items]


def read(
    name: str, *, images: bool = True, limit: int | None = None, ids: Sequence[str] = (), **keys: Any
) -> tuple[Iterator[Sample], RowReader]:
    """Read the rows like `vigos eval bench=NAME` with these keys of its task."""
    task = data.task_of(name, **keys)
    return benchmark_rows.read_samples(registry.get(name), task, images=images, limit=limit, ids=ids)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Prevent downloads, and give each test its own cache for parquet files."""
    from datasets import config
    from huggingface_hub import constants

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_saved_items_need_no_pictures(tmp_path: Path):
    path = write_lines(tmp_path / "items.jsonl", saved(data.MATHVISTA))
    samples, reader = read("mathvista", path=str(path), images=False)
    assert [sample.id for sample in samples] == [row["pid"] for row in data.MATHVISTA]
    assert reader.left_out == {}
    with pytest.raises(UserError, match="mathvista, item 168: missing image"):
        next(read("mathvista", path=str(path))[0])


def test_a_path_relative_to_the_file_is_a_picture(tmp_path: Path):
    (tmp_path / "images").mkdir()
    picture("blue").save(tmp_path / "images" / "a.png")
    path = write_lines(tmp_path / "items.jsonl", saved(data.MATHVISTA[:1], image="images/a.png"))
    (sample,) = read("mathvista", path=str(path))[0]
    assert colour_of(sample.images[0]) == BLUE


def test_a_path_outside_the_folder_is_refused(tmp_path: Path):
    picture("blue").save(tmp_path / "a.png")
    path = write_lines(tmp_path / "data" / "items.jsonl", saved(data.MATHVISTA[:1], image="../a.png"))
    with pytest.raises(UserError, match="item 168: image outside"):
        next(read("mathvista", path=str(path))[0])


def test_an_object_of_rows_such_as_mathvistas_own_file(tmp_path: Path):
    (tmp_path / "images").mkdir()
    items = {}
    for row in data.MATHVISTA:
        picture("blue").save(tmp_path / "images" / f"{row['pid']}.jpg")
        (row,) = saved([row], image=row["image"])
        items[row["pid"]] = {column: value for column, value in row.items() if column != "query"}
    path = tmp_path / "testmini.json"
    path.write_text(json.dumps(items, indent=4))
    for place in (path, tmp_path):
        samples, reader = read("mathvista", path=str(place))
        found = list(samples)
        assert [sample.id for sample in found] == list(items) and reader.left_out == {}
        assert abs(colour_of(found[0].images[0])[2] - 255) < 5
    path.write_text(json.dumps({**items, "168": {**items["168"], "question": ""}}))
    samples, reader = read("mathvista", path=str(path), images=False)
    assert len(list(samples)) == len(items) - 1 and reader.left_out == {"missing_question": ["168"]}


@pytest.mark.parametrize("items", [saved(data.MATHVISTA[:1]), saved(data.MATHVISTA[:2])])
def test_json_lines_in_a_json_file_are_not_an_object_of_rows(tmp_path: Path, items: list[dict[str, Any]]):
    path = write_lines(tmp_path / "testmini.json", items)
    assert len(list(read("mathvista", path=str(path), images=False)[0])) == len(items)


@pytest.mark.parametrize("columns", [{}, {"image": ""}, {"question_for_eval": data.ANGLE}])
def test_the_text_only_rows_of_mathverse(tmp_path: Path, columns: dict[str, str]):
    published = (
        "sample_index", "problem_index", "problem_version", "question", "answer", "question_type", "metadata",
        "query_wo", "query_cot",
    )  # fmt: skip
    items = []
    for version in ("Text Only", "Text_Only"):
        for question in (data.ANGLE, "Find the parabola's equation.", ""):
            row = data.mathverse(len(items) + 1, len(items) + 1, version, question, "C")
            items.append({**{column: row[column] for column in published}, **columns})
    path = write_parquet(tmp_path / "testmini_text_only.parquet", items)
    (tmp_path / "testmini_text_only.json").write_text(
        json.dumps(items)
    )  # the form in the authors' repository
    for place in (path, tmp_path, path.with_suffix(".json")):
        samples, reader = read("mathverse_text_only", path=str(place))
        found = list(samples)
        assert [sample.id for sample in found] == ["1", "2", "4", "5"]
        assert reader.left_out == {"missing_question": ["3", "6"]} and reader.without_picture == 0
        assert not any(sample.images for sample in found)
        assert {sample.fields["version"] for sample in found} == {"Text Only"}
        assert found[0].options == ("50°", "60°", "65°", "90°") and found[1].options == ()


@pytest.mark.parametrize(
    "raw", [picture("red"), stored("red"), data.cell("red"), {"bytes": None, "path": "a.png"}, "a.png"]
)
def test_pictures_as_pil_bytes_dict_or_path(tmp_path: Path, raw: Any):
    picture("red").save(tmp_path / "a.png")
    row = {**data.MMVET[0], "image": raw}
    (sample,) = registry.get("mmvet").samples([row], RowReader(tmp_path))
    assert colour_of(sample.images[0]) == RED


def test_parquet_of_bytes_and_of_lists(tmp_path: Path):
    path = write_parquet(tmp_path / "MMSI_Bench.parquet", data.MMSI)
    samples = list(read("mmsi", path=str(path))[0])
    assert [sample.id for sample in samples] == ["0", "1", "2"]
    assert colour_of(samples[0].images[2]) == BLUE
    path = write_parquet(tmp_path / "cv.parquet", data.CVBENCH)
    assert [sample.answer for sample in read("cvbench", path=str(path))[0]] == [
        "C",
        "A",
        "B",
    ]


def test_split_and_config_are_found_in_a_copy_of_a_repository(tmp_path: Path):
    for config, items in (("Accounting", data.MMMU[:1]), ("Biology", data.MMMU[3:4])):
        write_parquet(tmp_path / config / "validation-00000-of-00001.parquet", items)
        write_parquet(tmp_path / config / "dev-00000-of-00001.parquet", data.MMMU[2:3])
    samples = list(read("mmmu", path=str(tmp_path))[0])
    assert [sample.id for sample in samples] == ["validation_Accounting_1", "validation_Biology_4"]
    (other,) = read("mmmu", path=str(tmp_path / "Accounting"), split="dev")[0]
    assert other.id == "validation_Math_3"


def test_splits_with_the_same_beginning_are_not_confused(tmp_path: Path):
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", data.MATHVISION[:1])
    write_parquet(tmp_path / "data" / "testmini-00000-of-00001.parquet", data.MATHVISION[1:])
    bench = "mathvision"
    assert [s.id for s in read(bench, path=str(tmp_path))[0]] == ["4"]
    assert [s.id for s in read(bench, path=str(tmp_path), split="testmini")[0]] == ["5", "6"]
    with pytest.raises(UserError, match=r"no file of the split train .* such as data/test-"):
        read(bench, path=str(tmp_path), split="train")


def test_a_split_can_consist_of_named_parts(tmp_path: Path):
    write_lines(tmp_path / "a" / "testmini.jsonl", saved(data.MATHVERSE[:1]))
    write_lines(tmp_path / "a" / "testmini_text_only.jsonl", saved(data.MATHVERSE_TEXT_ONLY))
    bench, blind = "mathverse", "mathverse_text_only"
    assert [s.id for s in read(bench, path=str(tmp_path / "a"), images=False)[0]] == ["6"]
    assert [s.id for s in read(blind, path=str(tmp_path / "a"))[0]] == ["1"]
    write_lines(tmp_path / "b" / "test_2d.jsonl", saved(data.CVBENCH[:2]))
    write_lines(tmp_path / "b" / "test_3d.jsonl", saved(data.CVBENCH[2:]))
    cv = "cvbench"
    assert [s.id for s in read(cv, path=str(tmp_path / "b"), images=False)[0]] == ["0", "1", "2"]


def test_several_splits_are_read_in_order(tmp_path: Path):
    write_lines(tmp_path / "image-0.jsonl", saved(data.HALLUSION[:2]))
    write_lines(tmp_path / "non_image-0.jsonl", saved(data.HALLUSION[4:5]))
    samples, _ = read("hallusion", path=str(tmp_path), images=False)
    assert [s.id for s in samples] == ["VD_figure_0_0_0", "VD_figure_0_0_1", "VS_chart_0_0_0"]


def test_the_folder_of_vlind(tmp_path: Path):
    data.write_vlind(tmp_path)
    for folder in (tmp_path, tmp_path / "VLind-Bench Dataset"):
        samples = list(read("vlind", path=str(folder))[0])
        assert len(samples) == 18 and all(sample.images for sample in samples)
    file = tmp_path / "VLind-Bench Dataset" / "data.json"
    assert len(list(read("vlind", path=str(file))[0])) == 18
    with pytest.raises(UserError, match=r"there is no data\.json"):
        read("vlind", path=str(tmp_path / "VLind-Bench Dataset" / "images"))


def test_only_the_pictures_of_wanted_items_are_read(tmp_path: Path):
    items = [{"problem": "Which?", "answer": "red", "image": f"{name}.png"} for name in "abc"]
    picture("blue").save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    path = str(write_lines(tmp_path / "items.jsonl", items))
    samples, reader = read("plain", path=path, ids=["1"])
    (sample,) = samples
    assert (sample.id, colour_of(sample.images[0]), reader.at) == ("1", BLUE, 1)
    with pytest.raises(UserError, match="plain, item 2: image unreadable"):
        list(read("plain", path=path, ids=["1", "2"])[0])
    with pytest.raises(UserError, match="plain: there is no item 3; the ids are values of id"):
        list(read("plain", path=path, ids=["3"])[0])


def test_single_items_of_a_row_can_be_selected(tmp_path: Path):
    path = str(write_parquet(tmp_path / "vilp.parquet", data.VILP))
    samples, _ = read("vilp_f", path=path, ids=["1:3", "0:2"])
    assert [sample.id for sample in samples] == ["0:2", "1:3"]


def test_the_reader_knows_the_current_row(tmp_path: Path):
    path = write_lines(tmp_path / "items.jsonl", saved([data.MMMU[0], data.MMMU[4], data.MMMU[1]]))
    samples, reader = read("mmmu", path=str(path), images=False)
    assert [(sample.id, reader.at) for sample in samples] == [
        (data.MMMU[0]["id"], 0),
        (data.MMMU[1]["id"], 2),
    ]
    assert reader.left_out and reader.revision is None


def test_if_one_row_of_a_file_has_a_picture_all_need_one(tmp_path: Path):
    picture("blue").save(tmp_path / "a.png")
    items = [{"problem": "Which?", "answer": "blue", "image": "a.png"}, {"problem": "And?", "answer": "red"}]
    path = str(write_lines(tmp_path / "items.jsonl", items))
    with pytest.raises(UserError, match="plain, item 1: missing image"):
        list(read("plain", path=path)[0])
    assert len(list(read("plain", path=path, images=False)[0])) == 2
    path = str(write_lines(tmp_path / "text.jsonl", data.PLAIN_TEXT))
    samples, reader = read("plain", path=path)
    assert len(list(samples)) == reader.without_picture == 1


def test_limit_and_ids(tmp_path: Path):
    bench = "mathvista"
    path = str(write_lines(tmp_path / "items.jsonl", saved(data.MATHVISTA)))
    assert [s.id for s in read(bench, path=path, images=False, limit=2)[0]] == ["168", "740"]
    assert [s.id for s in read(bench, path=path, images=False, ids=["1", "740"])[0]] == ["740", "1"]
    with pytest.raises(UserError, match="no item 74O; did you mean 740"):
        list(read(bench, path=path, images=False, ids=["74O"])[0])


def test_two_items_with_the_same_id_are_an_error(tmp_path: Path):
    path = write_lines(tmp_path / "items.jsonl", saved([data.MATHVISTA[0], data.MATHVISTA[0]]))
    with pytest.raises(UserError, match="two items have the pid 168"):
        list(read("mathvista", path=str(path), images=False)[0])


def test_lines_that_are_not_rows_are_counted(tmp_path: Path):
    path = write_lines(tmp_path / "items.jsonl", saved(data.MATHVISTA[:1]))
    path.write_text(path.read_text() + "{broken\n[1]\n")
    samples, reader = read("mathvista", path=str(path), images=False)
    assert len(list(samples)) == 1
    assert reader.left_out == {"not_json": ["row 1", "row 2"]}


def test_a_missing_column_is_one_line_with_a_suggestion(tmp_path: Path):
    path = write_lines(tmp_path / "items.jsonl", [{"id": "1", "questions": "?"}])
    with pytest.raises(UserError, match=r"mathvista: no column 'pid'; .*there are id, questions") as error:
        read("mathvista", path=str(path))
    assert "\n" not in str(error.value)


def test_a_missing_path_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        read("mathvista", path=str(tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match="is a CSV file"):
        (tmp_path / "a.csv").write_text("pid\n1\n")
        read("mathvista", path=str(tmp_path / "a.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no parquet and no JSON lines"):
        read("mathvista", path=str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"bench=plain needs bench.path="):
        read("plain")


# ---------------------------------------------------------------- hub

COMMIT = "c0" * 20


def answers(monkeypatch: pytest.MonkeyPatch, commit: str | Exception) -> list[Any]:
    """Make the hub answer with this commit, or raise; returns the list of the requested revisions."""
    import huggingface_hub
    from huggingface_hub import constants

    asked: list[Any] = []

    def info(self: Any, hub: str, *, revision: str | None = None, **_: Any) -> Any:
        asked.append(revision)
        if isinstance(commit, Exception):
            raise commit
        return SimpleNamespace(sha=commit)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    return asked


@pytest.mark.parametrize("name", ["mathvista", "vlind"])
def test_without_a_network_one_line_names_the_data_to_download(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    answers(monkeypatch, ConnectionError("Name or service\nnot known"))
    hub = data.task_of(name).hub
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        read(name, revision="abc")
    line = str(error.value)
    assert "\n" not in line and "(Name or service not known)" in line and "the cache" in line
    assert f"hf download {hub} --repo-type dataset --revision abc" in line
    assert f"bench.tasks.{name}.path=" in line
    assert time.monotonic() - began < 10 and capfd.readouterr() == ("", "")


def cached(tmp_path: Path, name: str, config: str, split: str, commit: str, items: list[Any]) -> None:
    """Write a copy into the cache like `datasets` does."""
    import datasets

    file = write_parquet(tmp_path / "rows.parquet", saved(items))
    builder = datasets.load_dataset_builder("parquet", config, data_files={split: str(file)})
    builder.dataset_name = name.split("___")[1]
    builder.download_and_prepare(str(tmp_path / "cache" / name / config / "0.0.0" / commit))


def test_without_a_network_a_cached_copy_is_read_with_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    cached(tmp_path, "MathLLMs___math_vision", "default", "test", COMMIT, data.MATHVISION)
    answers(monkeypatch, ConnectionError("no way"))
    capfd.readouterr()
    bench = "mathvision"
    for revision in (None, COMMIT, COMMIT[:9], "main"):
        samples, reader = read(bench, revision=revision, images=False)
        assert [sample.id for sample in samples] == ["4", "5", "6"] and reader.revision == COMMIT
    assert capfd.readouterr() == ("", "")
    with pytest.raises(
        UserError, match=f"MathVision: .*no way.*the cached copy has the commit {COMMIT}; download it"
    ):
        read(bench, revision="d1" * 20)


def test_a_cached_copy_with_mixed_commits_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, ConnectionError("no way"))
    for subject, commit in (("Art", COMMIT), ("Math", "d1" * 20)):
        cached(tmp_path, "MMMU___mmmu", subject, "validation", commit, data.MMMU[:1])
    with pytest.raises(UserError, match=r"no way.* no complete copy of it in the cache"):
        read("mmmu", config="Art+Math")
    cached(tmp_path, "MMMU___mmmu", "Math", "validation", COMMIT, data.MMMU[2:3])
    samples, reader = read("mmmu", config="Art+Math", images=False)
    assert len(list(samples)) == 2 and reader.revision == COMMIT


def test_every_config_and_split_is_loaded_from_the_same_commit(monkeypatch: pytest.MonkeyPatch):
    import datasets

    asked = []

    def load(hub: str, config: str | None, *, split: str, revision: str | None):
        asked.append((hub, config, split, revision))
        return datasets.Dataset.from_list(saved(data.MMMU[:1], id=f"validation_{config}_1"))

    resolved = answers(monkeypatch, COMMIT)
    monkeypatch.setattr(datasets, "load_dataset", load)
    samples, reader = read("mmmu", revision="v1", images=False)
    assert len({sample.family for sample in samples}) == 30
    assert asked[0] == ("MMMU/MMMU", "Accounting", "validation", COMMIT) and len(asked) == 30
    assert {revision for *_, revision in asked} == {COMMIT} and resolved == ["v1"]
    assert reader.revision == COMMIT


def test_a_repository_of_files_is_read_from_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    data.write_vlind(tmp_path)
    asked = []

    def fetch(hub: str, *, repo_type: str, revision: str | None) -> str:
        asked.append((hub, repo_type, revision))
        return str(tmp_path)

    answers(monkeypatch, COMMIT)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    samples, reader = read("vlind")
    assert len(list(samples)) == 18 and reader.revision == COMMIT
    assert asked == [("klee972/VLind-Bench", "dataset", COMMIT)]


def test_an_unknown_revision_is_an_error(monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub.errors import RevisionNotFoundError

    error = RevisionNotFoundError.__new__(RevisionNotFoundError)
    Exception.__init__(error, "404\nRevision Not Found")
    answers(monkeypatch, error)
    with pytest.raises(UserError, match="AI4Math/MathVista could not be read: 404 Revision Not Found"):
        read("mathvista", revision="abc")


def test_the_registry_imports_no_adapter_before_use():
    program = (
        "import sys; from vigos_cli.evaluation import registry; "
        "heavy = {'torch', 'datasets', 'numpy', 'PIL', 'sympy', 'easy_vqa'}; "
        "folder = 'vigos_cli.evaluation.benchmarks'; "
        "adapters = {f'{folder}.{w.split(\".\")[0]}' for w in registry.WHERE.values()}; "
        "print(sorted((heavy | adapters) & set(sys.modules)))"
        "; [registry.get(name) for name in registry.WHERE]; print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["[]", "False"]
