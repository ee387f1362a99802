"""`vigos ablate` on the embedded model: failed cells, PALR, and cells that joblib runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm

import vigos_cli
from vigos_cli.__main__ import main
from vigos_cli.ablation.cells import ERROR, cell_state, read_list
from vigos_cli.utils.files import read_lines

SOURCE = str(Path(vigos_cli.__file__).parents[1])
SMALL = ["trainer.steps=1", "trainer.batch=4", "bench.tasks.priorworld.rows=2", "bench.samples=1"]
HERE = "workers=1"  # in this process, where functions can be replaced; test_parallel_cells.py has the others
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


@pytest.fixture
def no_plots(monkeypatch):
    """Skip the figures, because they are slow; one test draws them."""
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])


@pytest.fixture
def vigos(monkeypatch, capsys, tmp_path):
    """Call `vigos ...` in an empty folder; returns the exit code and the output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vigos", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return int(str(stopped.value.code)), printed.out + printed.err

    return call


@pytest.mark.slow
def test_cells_that_differ_only_in_a_key_that_may_change_are_refused(vigos, tmp_path):
    code, said = vigos("ablate", "seed=1", "rollout.batch=4,8", "out=s", *QUIET)
    assert code == 2 and "two cells are the same" in said and not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_failed_cell_does_not_stop_the_others_and_is_retried(vigos, tmp_path, no_plots):
    sweep = ["ablate", "adapter.targets=[q_proj],[nope]", "seed=1", "out=s", HERE, *SMALL, *QUIET]
    code, said = vigos(*sweep)
    assert code == 1 and "cells that failed: 1 (" in said and "matches no layer" in said
    listed = [tmp_path / "s" / line["folder"] for line in read_list(tmp_path / "s")]
    assert [cell_state(path) for path in listed] == ["done", "failed"]
    assert "Traceback" in (listed[1] / ERROR).read_text()
    # The failed cell copied the untrained answers before it failed; they do not depend on the adapter.
    assert (listed[1] / "before.jsonl").read_text() == (listed[0] / "before.jsonl").read_text()
    assert "matches no layer" in (tmp_path / "s" / "report.html").read_text()

    finished = (listed[0] / "summary.json").stat().st_mtime_ns
    tried = (listed[1] / ERROR).stat().st_mtime_ns
    code, said = vigos(*sweep)
    assert code == 1 and "2 cells, 1 of them to run" in said
    assert (listed[0] / "summary.json").stat().st_mtime_ns == finished
    assert (listed[1] / ERROR).stat().st_mtime_ns > tried

    assert vigos("ablate", "out=s", "cells=report", "reference=nobody")[0] == 2
    code, said = vigos("ablate", "out=s", "cells=report")
    assert code == 1 and "report in s/report.html" in said


@pytest.mark.slow
def test_palr_of_a_sweep(vigos, tmp_path, no_plots, monkeypatch):
    sweep = ["ablate", "routing=vigos,opsd", "seed=1", "out=s", HERE, *SMALL, *QUIET]
    code, said = vigos(*sweep, "palr_rows=3")
    assert code == 0 and "PALR of 2 to measure" in said
    listed = [tmp_path / "s" / line["folder"] for line in read_list(tmp_path / "s")]
    texts = {}
    for path in listed:
        for name in ("base", "own"):
            looked = path / "looking" / name
            lines = read_lines(looked / "rollouts.jsonl")
            assert len(lines) == 3 and "answer_support" in lines[0] and (looked / "rollouts.html").exists()
            config = json.loads((looked / "config.json").read_text())
            assert config["routing"]["student"]["format"] == "structured" and config["seed"] == 0
            assert (config["adapter"]["path"] is None) == (name == "base")
            texts[path, name] = [line["text"] for line in lines]
    assert texts[listed[0], "base"] == texts[listed[1], "base"]  # sampled once, scored twice
    second = json.loads((listed[1] / "looking" / "base" / "config.json").read_text())
    assert second["rollouts"] == str(listed[0] / "looking" / "base")
    assert "PALR by segment" in (tmp_path / "s" / "report.html").read_text()

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*/looking/looked.json")}
    assert vigos(*sweep, "palr_rows=3")[0] == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}

    def fail(*_):
        raise RuntimeError("no such luck")

    monkeypatch.setattr("vigos_cli.analysis.rollout_run.sample_settled", fail)
    code, said = vigos(*sweep, "palr_rows=4")
    assert code == 1 and "measurements of PALR that failed: 2 (" in said
    assert all(cell_state(path) == "done" for path in listed)
    assert "failed (RuntimeError: no such luck)" in (tmp_path / "s" / "report.html").read_text()


def start(tmp_path, *overrides):
    return warm.start(warm.vigos, ["ablate", "out=s", *SMALL, *overrides], cwd=tmp_path, own_session=True)


def start_new(tmp_path, *overrides):
    """Start it in a new interpreter; joblib starts its workers as copies of it."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vigos_cli", "ablate", "out=s", *SMALL, *overrides]
    return subprocess.Popen(command, cwd=tmp_path, env=environ)


@pytest.mark.slow
def test_cells_that_run_at_the_same_time(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    assert start_new(tmp_path, "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2").wait(300) == 0
    listed = read_list(tmp_path / "s")
    assert len(listed) == 2 and all(cell_state(tmp_path / "s" / line["folder"]) == "done" for line in listed)
    assert (tmp_path / "s" / "report.html").exists()
