"""Only one run at a time writes to a folder."""

from __future__ import annotations

from typing import Any

import pytest

from vigos_cli.ablation.run_cell import run_cell
from vigos_cli.config.compose import job
from vigos_cli.config.run_folder import has_results
from vigos_cli.utils import folder_writer
from vigos_cli.utils.errors import FolderInUse
from vigos_cli.utils.folder_writer import only_writer


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(folder_writer, "PATIENCE", 0.0)


def test_a_second_run_of_a_folder_is_refused_until_the_first_has_ended(tmp_path):
    with only_writer(tmp_path):
        with pytest.raises(FolderInUse, match="another process writes to this folder"), only_writer(tmp_path):
            pass
        with pytest.raises(FolderInUse), only_writer(tmp_path):  # the refused one has not taken the lock away
            pass
    with only_writer(tmp_path):
        pass
    (tmp_path / ".seen-0123").touch()
    assert not has_results(tmp_path), "the marks of the processes are no results"


def test_a_cell_that_another_job_runs_is_left_to_it(tmp_path, monkeypatch, capsys):
    config: Any = job("ablate", ["+experiment=main"])
    config.out = str(tmp_path / "sweep" / "cell")
    (tmp_path / "sweep" / "cell").mkdir(parents=True)
    with only_writer(tmp_path / "sweep" / "cell"):
        assert run_cell(config) is None
    assert "cell is being run already" in capsys.readouterr().err
    assert not (tmp_path / "sweep" / "cell" / "error.txt").exists()
