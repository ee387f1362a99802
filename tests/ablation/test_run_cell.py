"""Cells that run at the same time."""

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path

from sweeps import ROWS, cell

from vigos_cli.ablation.cells import cell_folder
from vigos_cli.ablation.run_cell import run_cell
from vigos_cli.ablation.untrained_answers import has_untrained_answers


def test_cells_that_start_together_make_the_untrained_answers_once(tmp_path, monkeypatch):
    """Both start before the answers exist; the second one waits and copies those of the first."""
    made, runs = [], []

    def distill(config) -> dict:
        out = Path(config.out)
        (out / "config.json").write_text(json.dumps({**asdict(config)}))
        if not (out / "before.json").exists():
            made.append(out.name)
            time.sleep(0.3)
            (out / "before.jsonl").write_text("{}\n")
            (out / "before.json").write_text("{}")
        runs.append(out.name)
        return {"after": {"score": 0.5}}

    monkeypatch.setattr("vigos_cli.training.distill.distill", distill)
    cells = [cell(*more, ROWS) for more in (["seed=1"], ["seed=2"], ["seed=3", "routing=opsd"])]
    for one in cells:
        one.config.out = str(cell_folder(tmp_path, one))
        Path(one.config.out).mkdir()
    threads = [threading.Thread(target=run_cell, args=(one.config,)) for one in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(runs) == 3 and len(made) == 2 and any("opsd" in name for name in made)
    assert all(has_untrained_answers(one.config) for one in cells)
