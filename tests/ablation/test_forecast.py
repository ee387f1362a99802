"""The time of unfinished cells is estimated."""

import pytest
from sweeps import cell, finish

from vigos_cli.ablation.forecast import TINY, forecast


@pytest.mark.slow
def test_the_remaining_time_is_estimated_from_finished_cells(tmp_path):
    cells = [
        cell(f"seed={seed}", "trainer.steps=60", *more)
        for seed, more in ((1, ()), (2, ()), (3, ("routing=two_pass",)))
    ]
    assert TINY.source in forecast(cells, tmp_path).total()
    finish(tmp_path, cells[0])  # 21 s without training, 150 s for 60 steps of 32
    found = forecast(cells, tmp_path)
    assert [(one.state, one.seconds and round(one.seconds, 6)) for one in found.cells] == [
        ("done", 171.0),
        ("not run", 171.0),
        ("not run", 21.0),
    ]
    assert found.remaining == pytest.approx(192.0) and "from the 1 finished" in found.total()
    together = forecast(cells, tmp_path, at_once=2)
    assert together.remaining == pytest.approx(171.0), "the longest cell, because 192 / 2 is less"
    assert "2.9 min 2 at a time" in together.total() and "3.2 min one after another" in found.total()
    more = [*cells, cell("seed=4", "trainer.steps=60")]
    assert forecast(more, tmp_path, at_once=2).remaining == pytest.approx((192.0 + 171.0) / 2)
    unknown = forecast([cell("model=qwen2vl")], tmp_path)
    assert unknown.remaining is None and "unknown" in unknown.total()
