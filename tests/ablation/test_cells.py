"""Which cells count as the same, and the list of cells that a sweep writes."""

import pytest
from sweeps import cell, finish

from vigos_cli.ablation.cells import add_to_list, cell_folder, cell_state, read_list
from vigos_cli.config.run_digest import digest


@pytest.mark.slow
def test_only_settings_that_change_the_result_change_the_key_of_a_cell(tmp_path):
    one = cell("seed=1")
    assert digest(cell("seed=1", label="called so").config) == one.key
    assert digest(cell("seed=1", "reference=vigos", "cells=list").config) == one.key
    assert digest(cell("seed=1", "reuse=[elsewhere]", "palr_rows=7").config) == one.key
    assert digest(cell("seed=2").config) != one.key
    assert digest(cell("seed=1", "trainer.lr=1e-4").config) != one.key
    assert digest(cell("seed=1", "rollout.batch=4", "rollout.url=http://elsewhere/v1").config) == one.key
    finish(tmp_path, one, steps=1)
    other = cell("seed=1", "routing=vigos")  # the same configuration under another folder name
    assert (
        cell_folder(tmp_path, other) == cell_folder(tmp_path, one)
        and cell_state(cell_folder(tmp_path, other)) == "done"
    )


def test_cells_added_to_a_sweeps_list_keep_their_order(tmp_path):
    cells = [cell(f"seed={seed}") for seed in (1, 2, 3)]
    add_to_list(tmp_path, cells[:2])
    add_to_list(tmp_path, cells[1:])
    assert [line["config"]["seed"] for line in read_list(tmp_path)] == [1, 2, 3]


def test_a_cell_that_failed_before_its_first_result_leaves_the_list_of_a_corrected_sweep(tmp_path):
    wrong, cut_short, right = cell("trainer.lr=1"), cell("seed=2"), cell("trainer.lr=1e-4")
    add_to_list(tmp_path, [wrong, cut_short])
    for one in (wrong, cut_short):
        cell_folder(tmp_path, one).mkdir()
    (cell_folder(tmp_path, wrong) / "error.txt").write_text("no such file")
    add_to_list(tmp_path, [wrong])
    assert [line["name"] for line in read_list(tmp_path)] == [wrong.name, cut_short.name]
    add_to_list(tmp_path, [right])
    assert [line["name"] for line in read_list(tmp_path)] == [cut_short.name, right.name]
    (cell_folder(tmp_path, cut_short) / "error.txt").write_text("out of memory")
    (cell_folder(tmp_path, cut_short) / "before.json").write_text("{}")
    add_to_list(tmp_path, [right])
    assert [line["name"] for line in read_list(tmp_path)] == [cut_short.name, right.name]
