"""The map shows the difference of the two methods for each pair of shares, and no other arm."""

import pytest
from sweeps import cell, make
from tools.win_map import draw, pairs

pytestmark = pytest.mark.slow
SETTINGS = {("0.1", "0.0"): (0.75, 0.25), ("0.5", "0.0"): (0.5, 0.5), ("0.5", "0.2"): (0.25, 1.0)}


@pytest.fixture
def sweep(tmp_path):
    cells = []
    for (conflict, wrong), scores in SETTINGS.items():
        keys = (f"data.conflict={conflict}", f"data.wrong_reference={wrong}", "seed=1")
        for routing, score in zip(("vigos", "opsd_structured", "sft"), (*scores, 1.0), strict=True):
            shares = {"score": score, "prior": 1.0, "other": 1.0}
            cells.append((cell(f"routing={routing}", *keys), shares))
    make(tmp_path / "map", cells)
    return tmp_path / "map"


def test_each_pair_of_shares_has_the_difference_of_vigos_from_opsd(sweep):
    found = {shares: row.differences["greedy"]["score"] for shares, row in pairs(sweep).items()}
    assert found.keys() == SETTINGS.keys()
    for shares, (ours, theirs) in SETTINGS.items():
        assert found[shares].mean == pytest.approx(ours - theirs)
        assert found[shares].low <= ours - theirs <= found[shares].high
    assert found["0.1", "0.0"].low > 0 > found["0.5", "0.2"].high


def test_the_map_is_drawn_and_its_numbers_are_printed(sweep, capsys):
    draw([sweep, sweep], ["one base", "another"], sweep / "map.png")
    assert (sweep / "map.png").stat().st_size > 10_000
    rows = [line for line in capsys.readouterr().out.splitlines() if "| Score |" in line]
    assert [line.split(" | ")[:3] for line in rows[:3]] == [
        ["| one base", conflict, wrong] for conflict, wrong in SETTINGS
    ]
    assert [line.split(" | ")[4].split()[0] for line in rows] == ["+0.500", "+0.000", "-0.750"] * 2
