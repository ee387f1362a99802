"""Answers of the untrained student are copied between cells that need the same ones."""

import json
from pathlib import Path

import pytest
from sweeps import ROWS, cell, finish

from vigos_cli.ablation.cells import cell_folder
from vigos_cli.ablation.untrained_answers import has_untrained_answers


@pytest.mark.slow
def test_untrained_answers_are_copied_only_between_cells_with_the_same_key(tmp_path):
    done = finish(tmp_path, cell("seed=1", ROWS), steps=1)
    (done / "before.json").write_text('{"score": 0.0}')
    (done / "config.json").write_text(json.dumps(json.loads((done / "summary.json").read_text())["config"]))
    for overrides, shared in (
        (["seed=2", ROWS, "routing=sft", "adapter.r=4", "trainer.lr=1e-4"], True),
        (["seed=2", ROWS, "routing=opsd"], False),  # with another prompt
        (["seed=2", ROWS, "bench.seed=1"], False),
        (["seed=2", "bench.tasks.priorworld.rows=5"], False),
        (["seed=2", ROWS, "adapter.path=elsewhere"], False),
    ):
        one = cell(*overrides)
        one.config.out = str(cell_folder(tmp_path, one))
        Path(one.config.out).mkdir()
        assert has_untrained_answers(one.config) is shared, overrides
        assert (Path(one.config.out) / "before.jsonl").exists() is shared
