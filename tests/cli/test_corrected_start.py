"""A command that failed before its first result can be corrected and repeated with the same out=."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vigos_cli.cli.launch import Flags, launch
from vigos_cli.data.priorworld import PriorWorld

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


def write_rows(folder: Path, *, answers: bool) -> None:
    """Ten rows with pictures; without answers none of them can be used."""
    world, rows = PriorWorld(size=10), []
    for i in range(10):
        world[i].images[0].save(folder / f"{i}.png")
        answer = world[i].answer if answers else ""
        rows.append({"question": world[i].question, "answer": answer, "images": [f"{i}.png"]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def vigos(command: str, *overrides: str) -> int:
    """The exit code of a command in this process."""
    try:
        return launch(command, [*overrides, *QUIET], Flags())
    except SystemExit as stopped:
        return int(stopped.code or 0)


@pytest.mark.slow
def test_rollout_with_data_that_could_not_be_read(tmp_path, capsys):
    write_rows(tmp_path, answers=False)
    out, few = f"out={tmp_path / 'run'}", ("data=jsonl", "limit=2", "rollout.max_new_tokens=4")
    assert vigos("rollout", f"data.path={tmp_path / 'rows.jsonl'}", out, *few) == 1
    assert "no row can be used" in capsys.readouterr().err and (tmp_path / "run" / "config.json").exists()
    write_rows(tmp_path, answers=True)
    assert vigos("rollout", f"data.path={tmp_path / 'rows.jsonl'}", out, *few, "seed=1") == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1
    assert vigos("rollout", f"data.path={tmp_path / 'rows.jsonl'}", out, *few) == 2
    assert "is not empty (it contains rollouts.html)" in capsys.readouterr().err


@pytest.mark.slow
def test_distill_whose_first_evaluation_failed(tmp_path, monkeypatch, capsys):
    """Before the second start the settings and the data are changed."""
    from vigos_cli.evaluation.training_evaluation import TrainingEvaluation

    write_rows(tmp_path, answers=True)
    small = ("data=jsonl", f"data.path={tmp_path / 'rows.jsonl'}", "trainer.steps=1", "trainer.batch=2")
    small += ("rollout.max_new_tokens=4", "bench.max_new_tokens=4", f"out={tmp_path / 'run'}")
    with monkeypatch.context() as patch:

        def fail(*given, **also):
            raise RuntimeError("broken")

        patch.setattr(TrainingEvaluation, "run", fail)
        assert vigos("distill", *small) == 1
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "data.json", "holdout.json"} <= left and "summary.json" not in left
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows.replace('"question": "', '"question": "Look. '))
    assert vigos("distill", *small, "bench.tasks.holdout.rows=1") == 0
    assert len(json.loads((tmp_path / "run" / "holdout.json").read_text())["rows"]) == 1


@pytest.mark.slow
def test_eval_that_failed_before_its_first_answer(tmp_path, monkeypatch):
    from vigos_cli.evaluation.asker import Asker

    few = ("bench.tasks.priorworld.rows=1", "bench.samples=0", f"out={tmp_path / 'run'}")
    with monkeypatch.context() as patch:

        def fail(*given, **also):
            raise RuntimeError("broken")

        patch.setattr(Asker, "_ask", fail)
        assert vigos("eval", *few, "bench.max_new_tokens=4") == 1
    assert (tmp_path / "run" / "config.json").exists()
    assert vigos("eval", *few, "bench.max_new_tokens=5") == 0
