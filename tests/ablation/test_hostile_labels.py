"""A label of an arm is shown as text in every file of a sweep's report, whatever characters it has."""

from __future__ import annotations

import csv
import json
from xml.etree import ElementTree

from sweeps import make, pair

from vigos_cli.ablation.arms import Arm
from vigos_cli.ablation.figure_style import legend_label, panels, save_plot, shared_legend
from vigos_cli.ablation.sweep_report import write_report

HOSTILE = "=1+1|\x1b[31m[red]<script>\u202e`x` [y](http://x.example) $\\frac{$"
SHOWN = "=1+1|U+001B[31m[red]<script>U+202E`x` [y](http://x.example) $\\frac{$"


def test_the_tables_of_a_report_show_a_label_as_text(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
    make(tmp_path, pair(seeds=(1,)))
    listed = json.loads((tmp_path / "cells.json").read_text())
    for line in listed:
        line["label"] = f"{HOSTILE} {line['config']['routing']['name']}"
    (tmp_path / "cells.json").write_text(json.dumps(listed))
    write_report(tmp_path)
    page, text, said = (
        (tmp_path / "report.html").read_text(),
        (tmp_path / "report.md").read_text(),
        capsys.readouterr(),
    )
    for file in (
        page,
        text,
        said.out,
        (tmp_path / "cells.csv").read_text(),
        (tmp_path / "arms.csv").read_text(),
    ):
        assert not set(file) & set("\x1b\u202e")
    assert "U+202E" in page and "<script" not in page
    rows = [line for line in text.splitlines() if line.startswith("| =1+1")]
    assert len(rows) == 4 and all(
        "\\|U+001B" in row and "\\<script>" in row and "[y\\](" in row for row in rows
    )
    with (tmp_path / "arms.csv").open(newline="") as file:
        labels = {row["arm"] for row in csv.DictReader(file)}
    assert f"'{SHOWN} vigos" in labels


def test_a_figure_shows_a_label_as_text(tmp_path):
    figure, (axis,) = panels(1, 1, height=2)
    for label in (HOSTILE, "_hidden"):
        axis.plot([0, 1], [0, 1], label=legend_label(Arm(label, True, {}, [])))
    shared_legend(figure, [axis])
    save_plot(tmp_path, "x", figure, "t", "t")
    texts = [node.text for node in ElementTree.parse(tmp_path / "x.svg").iter() if node.tag.endswith("text")]
    assert SHOWN in texts and any("_hidden" in (text or "") for text in texts)
