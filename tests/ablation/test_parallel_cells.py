"""`vigos ablate` with worker processes; in the quick tests a made-up cell stands for the real one."""

import csv
import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest
import torch
from made_up_cell import copied
from sweeps import ROWS, cell, finish
from test_side_by_side import lives, wait_for
from test_sweep import SMALL, start

from vigos_cli.__main__ import main
from vigos_cli.ablation.cells import cell_state, read_list
from vigos_cli.ablation.forecast import forecast
from vigos_cli.ablation.parallel_cells import in_order

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


@pytest.fixture
def vigos(monkeypatch, capsys, tmp_path):
    """Call `vigos ablate ...` with made-up cells in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vigos_cli.ablation.parallel_cells.run_composed", copied)
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
    for seed in (1, 2, 3):
        finish(tmp_path, cell(f"seed={seed}", ROWS)).rename(tmp_path / f"seed-{seed}")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(
            sys, "argv", ["vigos", "ablate", "out=s", "bench.samples=1", ROWS, *QUIET, *arguments]
        )
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(str(stopped.value.code)), *capsys.readouterr()

    return call


@pytest.mark.slow
def test_failed_and_killed_cells_do_not_stop_the_others_and_are_tried_again(vigos, tmp_path):
    (tmp_path / "broken").touch()
    ignored = ["routing=vcsd", "loss.clip=token"]
    code, said, errors = vigos("seed=1,2,3", "workers=2", *ignored)
    assert (
        "vigos: loss.clip: routing=vcsd states it; set routing.supervise.all.clip: seed=1 ignores it"
        in errors
    )
    assert code == 1 and "3 cells, 3 of them to run" in said and " 2 at a time (" in said
    assert re.search(r"^cell [123] of 3: seed=1  0.000 before, 0.500 after  \d+ s$", said, re.MULTILINE)
    assert "seed=2-" in errors and "failed: ValueError: no such luck (see error.txt and output.log" in errors
    assert (
        "the process of this cell ended with signal SIGKILL; if the machine has too little memory" in errors
    )
    assert "cells that failed: 2 (seed=2; seed=3)" in said
    folders = [tmp_path / "s" / line["folder"] for line in read_list(tmp_path / "s")]
    assert [cell_state(folder) for folder in folders] == ["done", "failed", "failed"]
    finished = (folders[0] / "summary.json").stat().st_mtime_ns

    (tmp_path / "broken").unlink()
    code, said, errors = vigos("seed=1,2,3", "workers=2", *ignored)
    assert code == 0 and "3 cells, 2 of them to run" in said and "of 3: seed=1" not in said
    assert {f"cell {n} of 3: seed=" in said for n in (2, 3)} == {True}
    assert (folders[0] / "summary.json").stat().st_mtime_ns == finished
    assert (tmp_path / "s" / "multirun.yaml").exists() and (tmp_path / "s" / "report.html").exists()


def test_the_order_avoids_waiting(tmp_path):
    """One cell for each untrained model comes first, and those without training come last."""
    asked = [f"routing={name}" for name in ("two_pass", "vigos", "opsd", "sft")]
    cells = [cell(routing, f"seed={seed}", ROWS) for seed in (1, 2) for routing in asked]
    found = [one.cell.name for one in in_order(forecast(cells, tmp_path).cells)]
    order = ["two_pass 1", "opsd 1", "vigos 1", "sft 1", "vigos 2", "opsd 2", "sft 2", "two_pass 2"]
    assert found == [f"routing={name},seed={seed},{ROWS}" for name, seed in map(str.split, order)]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_gives_the_same_bytes_as_one_cell_after_another(tmp_path, monkeypatch):
    """Two cells at a time until the first one is done, then one after another."""
    sweep, cells = tmp_path / "s", ["seed=1,2,3", "trainer.steps=3", "trainer.checkpoint_every=1"]
    process = start(tmp_path, *cells, "workers=2")
    wait_for(lambda: list(sweep.glob("*/summary.json")), 300)
    of_sweep = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(lives(one.pid) for one in of_sweep))
    listed = [sweep / line["folder"] for line in read_list(sweep)]
    done = [folder for folder in listed if cell_state(folder) == "done"]
    assert len(listed) == 3 and len(done) in (1, 2)
    assert "distill 3/3" in (done[0] / "output.log").read_text()
    assert (done[0] / ".hydra" / "overrides.yaml").exists() and (done[0] / "ablate.log").exists()
    finished = (done[0] / "summary.json").stat().st_mtime_ns

    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each worker has
    try:
        for out in (sweep, tmp_path / "one"):
            arguments = [*SMALL, *cells, *QUIET, "workers=1", f"out={out}"]
            monkeypatch.setattr(sys, "argv", ["vigos", "ablate", *arguments])
            with pytest.raises(SystemExit, match="0"):
                main()
    finally:
        torch.set_num_threads(threads)
    assert (done[0] / "summary.json").stat().st_mtime_ns == finished
    assert "3 of 3 runs are done" in (sweep / "report.html").read_text()
    assert contents(sweep) == contents(tmp_path / "one")


def contents(sweep: Path) -> dict[str, object]:
    """The adapters and answers of all cells as bytes, and the table of cells without their times."""
    names = ("adapter/adapter_model.safetensors", "before.jsonl", "responses.jsonl")
    found = {
        str(path.relative_to(sweep)): path.read_bytes() for name in names for path in sweep.glob(f"*/{name}")
    }
    assert len(found) == 9
    with (sweep / "cells.csv").open() as file:
        rows = [{**row, "seconds": None} for row in csv.DictReader(file)]
    return {**found, "cells.csv": rows}
