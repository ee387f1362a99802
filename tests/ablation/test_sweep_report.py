"""The report of made-up sweeps, whose numbers are known in advance."""

import csv
import json
from dataclasses import asdict

import pytest
from sweeps import SHARES, ask, cell, make, pair

from vigos_cli.ablation.arms import read_sweep
from vigos_cli.ablation.cells import ERROR, cell_folder
from vigos_cli.ablation.compare_arms import compare_arms, verdict_on
from vigos_cli.ablation.figure_style import panels, save_plot
from vigos_cli.ablation.sweep_report import write_report


@pytest.fixture
def no_plots(monkeypatch):
    """Skip the figures, because they are slow; one test draws them."""
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])


@pytest.mark.slow
def test_a_report_of_known_numbers(tmp_path):
    make(tmp_path, pair())
    table = read_sweep(tmp_path)
    assert [arm.label for arm in table.arms] == ["untrained, structured prompt", "vigos", "sft"]
    assert table.varied["seed"] == ["1", "2", "3"] and "trainer.lr" in table.fixed
    rows = compare_arms(table.arms)
    score = {row.arm.label: row.means["greedy"]["score"] for row in rows}
    assert score["vigos"] and score["vigos"].mean == 0.5 and score["vigos"].n == 3 * 12
    assert score["sft"] and score["sft"].mean == 0.25
    assert rows[1].differences["greedy"] == {}
    untrained, sft = rows[0].differences["greedy"], rows[2].differences["greedy"]
    assert untrained["score"].mean == -0.5 and sft["score"].mean == -0.25
    assert (
        sft["score"].items == 36
        and sft["prior"].mean == 0
        and verdict_on(sft["prior"]) == "interval spans zero"
    )
    # Holm's correction for two tests: the smaller p is doubled; the larger p is at least that value.
    small, large = sorted([untrained["score"], sft["score"]], key=lambda d: d.p)
    assert small.p_holm == pytest.approx(min(1, 2 * small.p))
    assert large.p_holm == pytest.approx(max(large.p, 2 * small.p))

    write_report(tmp_path)
    with (tmp_path / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(c["arm"], c["seed"], c["greedy_score"]) for c in cells[:2]] == [
        ("vigos", "1", "0.5"),
        ("sft", "1", "0.25"),
    ]
    with (tmp_path / "arms.csv").open() as file:
        arms = {(a["arm"], a["answers"], a["measure"]): a for a in csv.DictReader(file)}
    assert float(arms["sft", "sampled", "score"]["difference"]) == -0.25
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for said in ("constructed test bed", "71.97 / 41.35", "interval spans zero", "vigos"):
        assert said in page
    assert "| sft | 3 | 0.250" in text and "reference" in text
    for name in ("score_prior", "measures", "curves", "divergence"):
        for form in ("png", "svg"):
            assert (tmp_path / "plots" / f"{name}.{form}").stat().st_size > 1000
    assert page.count("data:image/svg+xml") == 5  # four figures and the picture of the routings


@pytest.mark.slow
@pytest.mark.parametrize("world", [True, False])
def test_any_benchmark_is_a_column(tmp_path, world):
    asked = () if world else ("bench=vilp_f",)
    cells = [
        cell(f"routing={r}", f"seed={s}", *asked) for r in ("vigos", "opsd_structured") for s in (1, 2, 3)
    ]
    make(tmp_path, [(one, SHARES if world else None) for one in cells])
    for number, one in enumerate(cells):
        where = cell_folder(tmp_path, one)
        if not world:
            where.mkdir()
            summary = {"before": {}, "after": {}, "steps": 2, "seconds": {}, "config": asdict(one.config)}
            (where / "summary.json").write_text(json.dumps(summary))
        ask(where, "vilp_f", {"agrees": 0.9, "conflicts": 0.75 if number < 3 else 0.25})
        ask(where, "mmsi", {"": 0.5})
    table = read_sweep(tmp_path)
    rows = {row.arm.label: row for row in compare_arms(table.arms, "vigos")}
    benches = ["mmsi", "vilp_f, agrees", "vilp_f, conflicts"]
    shown = list(rows["vigos"].means["greedy"])
    assert shown == (["score", "prior", "other", "description", "valid", *benches] if world else benches)
    means = {m: rows["vigos"].means["sampled"][m].mean for m in benches}  # type: ignore[union-attr]
    assert means == {"mmsi": 0.5, "vilp_f, agrees": 0.9, "vilp_f, conflicts": 0.75}
    other = rows["opsd_structured"].differences["greedy"]
    assert other["vilp_f, conflicts"].mean == pytest.approx(-0.5) and other["mmsi"].mean == 0
    assert rows["untrained, structured prompt"].means["greedy"]["vilp_f, agrees"].mean == 0  # type: ignore[union-attr]
    write_report(tmp_path)
    assert "| vilp_f, conflicts |" in (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert ("PriorWorld is a constructed test bed" in page) == world
    assert (tmp_path / "plots" / "score_prior.png").exists() == world


@pytest.mark.slow
def test_cells_that_are_not_done_are_listed_and_not_counted(tmp_path, no_plots):
    cells = pair(seeds=(1, 2))
    make(tmp_path, [*cells[:3], (cells[3][0], None)])
    failed = cell_folder(tmp_path, cells[3][0])
    failed.mkdir()
    (failed / ERROR).write_text("Traceback\nRuntimeError: <b>boom</b>\n")
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "1 of 4 cells: failed" in page and "fewer than three seeds" in page
    assert "different numbers of seeds" in page
    assert "RuntimeError: &lt;b&gt;boom&lt;/b&gt;" in page and "<b>boom" not in page
    sft = compare_arms(read_sweep(tmp_path).arms)[2]
    assert sft.differences["greedy"]["score"].items == 12  # only one seed is finished in both arms


@pytest.mark.slow
def test_cells_that_were_stopped_are_named(tmp_path, no_plots):
    cells = pair(seeds=(1, 2))
    make(tmp_path, cells)
    write_report(tmp_path)
    assert "stopped early" not in (tmp_path / "report.html").read_text()
    path = cell_folder(tmp_path, cells[0][0]) / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stopped": "collapse"}))
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "1 of 4 cells were stopped early because the model collapsed" in page
    assert f"include them: {path.parent.name}" in page


def test_model_output_is_escaped(tmp_path, no_plots):
    evil = '</p><script>alert(1)</script><img src=x onerror="alert(2)">'
    make(tmp_path, pair(seeds=(1,)))
    for path in tmp_path.glob("*/responses.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["text"] = line["answer"] = evil
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    listed = json.loads((tmp_path / "cells.json").read_text())
    for line in listed:
        line["label"] = f"<i>{line['config']['routing']['name']}"
    (tmp_path / "cells.json").write_text(json.dumps(listed))
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count('<span class="token invalid">&lt;/p&gt;&lt;script&gt;') == 8  # two arms, four pictures
    assert "&lt;script&gt;alert(1)" in page and "&lt;i&gt;vigos" in page
    assert "<script" not in page and "<img src=x" not in page and "<i>vigos" not in page
    assert "default-src 'none'" in page


def test_the_same_figure_has_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        figure, (axis,) = panels(1, 1, height=2)
        axis.plot([0, 1], [1, 0], marker="o")
        save_plot(tmp_path / folder, "line", figure, "", "")
    for form in ("png", "svg"):
        assert (tmp_path / "one" / f"line.{form}").read_bytes() == (
            tmp_path / "two" / f"line.{form}"
        ).read_bytes()
