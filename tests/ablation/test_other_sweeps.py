"""Finished cells are copied from other sweeps."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from sweeps import ROWS, SHARES, cell, make

from vigos_cli.ablation.cells import cell_folder, cell_state
from vigos_cli.ablation.forecast import forecast
from vigos_cli.ablation.other_sweeps import REUSED, copy_finished, find_finished
from vigos_cli.ablation.untrained_answers import has_untrained_answers
from vigos_cli.utils.errors import ConfigError


def test_a_cell_that_another_sweep_has_finished_is_copied(tmp_path):
    cells = [cell(f"seed={seed}", ROWS, label="called so") for seed in (1, 2, 3)]
    other, sweep = tmp_path / "other", tmp_path / "new"
    make(other, [(cell("seed=1", ROWS), SHARES), (cell("seed=2", ROWS), None)])
    source = cell_folder(other, cells[0])
    (source / "checkpoints").mkdir()
    places = find_finished(cells, sweep, [str(other)])
    assert places == {cells[0].key: source}
    listed = forecast(cells, sweep, places)
    assert [one.state for one in listed.cells] == ["done", "not run", "not run"]
    assert str(source) in listed.lines()[0] and str(other) not in listed.lines()[1]
    assert "2 of them to run, 1 copied" in listed.total() and not sweep.exists()

    home = cell_folder(sweep, cells[0])
    home.mkdir(parents=True)
    (home / "half.txt").write_text("cut short")
    copy_finished(cells, sweep, places)
    assert (
        cell_state(home) == "done"
        and not (home / "checkpoints").exists()
        and not (home / "half.txt").exists()
    )
    assert json.loads((home / REUSED).read_text()) == {"from": str(source)}
    assert sorted(path.name for path in sweep.iterdir()) == [home.name]
    assert (home / "responses.jsonl").read_text() == (source / "responses.jsonl").read_text()
    assert find_finished(cells, sweep, [str(other)]) == {}  # finished cells are not copied again
    with pytest.raises(ConfigError, match="contains no sweep"):
        find_finished(cells, sweep, [str(tmp_path)])


def test_a_copy_that_was_interrupted_does_not_count(tmp_path, monkeypatch):
    one = cell("seed=1", ROWS)
    make(tmp_path / "other", [(one, SHARES)])
    (cell_folder(tmp_path / "other", one) / "before.json").write_text("{}")
    (cell_folder(tmp_path / "other", one) / "config.json").write_text(json.dumps(asdict(one.config)))
    sweep = tmp_path / "new"

    def cut(source, draft, **_):
        Path(draft).mkdir()
        for name in ("config.json", "before.json", "summary.json"):
            shutil.copy(Path(source) / name, draft)
        raise KeyboardInterrupt

    places = find_finished([one], sweep, [str(tmp_path / "other")])
    with monkeypatch.context() as patched:
        patched.setattr("vigos_cli.ablation.other_sweeps.shutil.copytree", cut)
        with pytest.raises(KeyboardInterrupt):
            copy_finished([one], sweep, places)
    assert cell_state(cell_folder(sweep, one)) == "not run"
    again = cell("seed=2", ROWS)
    again.config.out = str(cell_folder(sweep, again))
    Path(again.config.out).mkdir()
    assert not has_untrained_answers(again.config)  # an incomplete cell has no answers to copy
    copy_finished([one], sweep, places)
    assert cell_state(cell_folder(sweep, one)) == "done" and not list(sweep.glob(".*.draft"))
