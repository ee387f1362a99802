"""Benchmarks before and after training, and all benchmarks of the paper at once, on small data."""

from __future__ import annotations

import json
from pathlib import Path

import bench_fixtures as data
import pytest
from test_benchmark_rows import write_parquet

from vigos_cli.config.compose import job
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.training.distill import distill

PAPER = {
    "mathvista": data.MATHVISTA,
    "mmmu": data.MMMU,
    "mmmu_pro": data.MMMU_PRO,
    "mmmu_pro_vision": data.MMMU_PRO_VISION,
    "mathverse": data.MATHVERSE,
    "mmvet": [row for row in data.MMVET if isinstance(row["capability"], str)],  # a column has a single type
    "mmsi": data.MMSI,
    "realworldqa": data.REALWORLDQA,
    "cvbench": data.CVBENCH,
    "vilp_f": data.VILP,
    "vilp_p": data.VILP,
}
SHORT = ("bench.max_new_tokens=4", "bench.batch=64")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for name, items in PAPER.items():
        write_parquet(folder / f"{name}.parquet", items)
    return folder


def paths(rows: Path, names) -> list[str]:
    return [f"bench.tasks.{name}.path={rows / name}.parquet" for name in names]


@pytest.mark.slow
def test_all_benchmarks_of_the_paper_in_one_run_with_one_model(rows, tmp_path):
    scores = evaluate(
        job("eval", ["bench=paper", *paths(rows, PAPER), *SHORT, "bench.samples=1", f"out={tmp_path}"])  # type: ignore[arg-type]
    )
    assert scores.keys() == PAPER.keys()
    for name in PAPER:
        verdicts = [
            json.loads(line) for line in (tmp_path / name / "verdicts.jsonl").read_text().splitlines()
        ]
        assert {v["draw"] for v in verdicts} == {0, 1} and {v["bench"] for v in verdicts} == {name}
        assert (tmp_path / name / "report.html").exists()
    assert json.loads((tmp_path / "scores.json").read_text()) == scores


@pytest.mark.slow
def test_a_run_can_be_evaluated_with_any_benchmark(rows, tmp_path):
    names = ("vilp_f", "realworldqa")
    tasks = f"+bench.tasks={{{', '.join(f'{name}: {{path: {rows / name}.parquet}}' for name in names)}}}"
    asked = ("bench=vilp_f", tasks, *SHORT, "bench.samples=1", "bench.tasks.vilp_f.limit=3")
    learning = ("trainer.steps=2", "trainer.batch=2", "trainer.eval_every=1", "rollout.max_new_tokens=8")
    config = job("distill", [*asked, *learning, f"out={tmp_path}"])
    summary = distill(config)  # type: ignore[arg-type]
    assert summary is not None
    for when in ("before", "after"):
        assert summary[when].keys() == {"benches"} and summary[when]["benches"].keys() == set(names)
        for name in names:
            assert summary[when]["benches"][name] == json.loads(
                (tmp_path / when / name / "scores.json").read_text()
            )
    assert summary["after"]["benches"]["vilp_f"]["accuracy"]["n"] == 3
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert line["eval"]["benches"].keys() == set(names)
    assert "sampled" not in line["eval"]["benches"]["vilp_f"]
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "| vilp_f, score | sampled |" in card and "| realworldqa, accuracy | greedy |" in card


def test_an_evaluation_that_writes_no_files_shows_its_progress_too(tiny, tmp_path, capsys):
    from vigos_cli.evaluation.training_evaluation import TrainingEvaluation
    from vigos_cli.generation.engine import InProcess
    from vigos_cli.method.prompts import Prompter

    few = ("bench.tasks.priorworld.rows=2", "bench.samples=1", "bench.max_new_tokens=4")
    config = job("distill", [*few, f"out={tmp_path}"])
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    TrainingEvaluation(InProcess(tiny), prompter, config).run(tmp_path / "before")
    said = capsys.readouterr().err
    assert "priorworld 8/8, 0 s left, 64 tokens, " in said and not list(tmp_path.iterdir())
