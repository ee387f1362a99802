"""The PALR of each arm is read from its cells and shown in the report."""

import csv
import re
from urllib.parse import unquote

import numpy as np
import pytest
from sweeps import ROWS, SHARES, add_palr, cell, make

from vigos_cli.ablation.arms import read_sweep
from vigos_cli.ablation.cells import cell_folder
from vigos_cli.ablation.palr_results import read_palr
from vigos_cli.ablation.sweep_report import write_report
from vigos_cli.analysis.palr import share_by_answer
from vigos_cli.utils.stats import crossed_statistic


def test_a_statistic_over_seeds_and_rows():
    def run(*values: tuple[float, float]):
        return {row: np.array([1.0, a, a + i, 1.0]) for row, (a, i) in enumerate(values)}

    alike = [run((1.0, 3.0), (2.0, 6.0))] * 3
    found = crossed_statistic(alike, share_by_answer)
    assert (
        found
        and found.mean == pytest.approx(0.25)
        and found.low == pytest.approx(found.high)
        and found.n == 6
    )
    apart = [run((share, 1 - share), (share, 1 - share)) for share in (0.2, 0.5, 0.8)]
    found = crossed_statistic(apart, share_by_answer)
    assert found and found.mean == pytest.approx(0.5) and found.low < 0.35 and found.high > 0.65
    assert crossed_statistic(apart[:2], share_by_answer).high == pytest.approx(0.35)  # type: ignore[union-attr]
    half = [run((1.0, 3.0)), {}]  # a run without such tokens does not count in the mean
    assert crossed_statistic(half, share_by_answer).mean == pytest.approx(0.25)  # type: ignore[union-attr]
    assert crossed_statistic([{}], share_by_answer) is None


@pytest.mark.slow
def test_the_report_of_palr(tmp_path, monkeypatch):
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
    cells = [
        (cell(f"routing={routing}", f"seed={seed}", ROWS), SHARES)
        for seed in (1, 2, 3)
        for routing in ("vigos", "opsd", "sft")
    ]
    make(tmp_path, cells)
    assert read_palr(tmp_path, read_sweep(tmp_path)) is None
    for one, _ in cells[:-2]:
        if "sft" not in one.name:
            add_palr(cell_folder(tmp_path, one), 0.25 if "vigos" in one.name else 0.75)
    found = read_palr(tmp_path, read_sweep(tmp_path))
    assert found
    assert [(row.arm.label, row.rollouts, row.runs) for row in found.rows] == [
        ("vigos", "base", 1),
        ("opsd", "base", 1),
        ("vigos", "own", 3),
        ("opsd", "own", 2),
    ]
    vigos, opsd = found.rows[2], found.rows[3]
    assert vigos.palr["reasoning"] and vigos.palr["reasoning"].mean == pytest.approx(0.25, abs=1e-6)
    assert vigos.palr["reasoning"].n == 18 and opsd.palr["reasoning"] and opsd.palr["reasoning"].n == 12
    assert vigos.palr["description"] and vigos.palr["description"].mean == 0
    assert vigos.pull["description"] == pytest.approx(0.5) and vigos.visual["description"]
    notes = " ".join(found.notes)
    assert "sft has no PALR" in notes and "opsd: measured in 2 of 3 runs" in notes and "plain prompt" in notes

    write_report(tmp_path)
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "17.26" in page and "Another model" in page and "Arm sft has no PALR" in page
    links = re.findall(r'href="([^"#]+)#colour=palr"', page)
    assert len(links) == 10 and all((tmp_path / unquote(link)).parent.is_dir() for link in links)
    assert "| each arm's own rollouts | vigos | 0 [0, 0], 0.5, 18 |" in text
    assert (tmp_path / "plots" / "palr.png").stat().st_size > 1000
    with (tmp_path / "palr.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["tokens"] == "reasoning"]
    assert [line["measure"] for line in lines] == ["palr", "visual_dependency"] * 4
