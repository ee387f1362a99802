"""Means and paired differences of arms are computed."""

import json

import pytest
from sweeps import ROWS, SHARES, answers, cell, make, pair

from vigos_cli.ablation.arms import read_sweep
from vigos_cli.ablation.cells import cell_folder
from vigos_cli.ablation.compare_arms import compare_arms
from vigos_cli.ablation.report_text import answer_kinds, limitations, runs_text, warnings
from vigos_cli.ablation.sweep_report import write_report
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.stats import crossed_difference


def test_differences_of_paired_runs():
    ahead = [{f"q{i}": [1.0] for i in range(20)} for _ in range(3)]
    found = crossed_difference(ahead)
    assert found and found.mean == 1 and 0.8 < found.low < found.high == 1
    none = crossed_difference([{f"q{i}": [0.0] for i in range(20)}])
    assert none and none.low == -none.high < 0
    mixed = crossed_difference([{f"q{i}": [float(i % 2)] for i in range(40)} for _ in range(3)])
    assert mixed and mixed.mean == 0.5 and 0.3 < mixed.low < 0.5 < mixed.high < 0.7
    few = [{"a": [1.0], "b": [1.0]}, {"a": [-1.0], "b": [-1.0]}]  # two seeds: only questions are resampled
    both = crossed_difference(few)
    assert both and both.mean == 0
    assert crossed_difference([{}]) is None


def test_pass_at_n_is_whether_any_sampled_answer_is_right(tmp_path):
    one, right = cell("seed=1", ROWS), dict.fromkeys(SHARES, 1.0)
    make(tmp_path, [(one, SHARES)])
    assert read_sweep(tmp_path).arms[1].runs[0].kinds["pass@n"] == {}  # of one sample
    with (cell_folder(tmp_path, one) / "responses.jsonl").open("a") as file:
        for line in answers(one.config, right, seed=1):
            if line["draw"]:
                file.write(json.dumps({**line, "draw": 2, "valid": False}) + "\n")
    rows = compare_arms(read_sweep(tmp_path).arms)
    assert answer_kinds(rows) == ["greedy", "sampled", "pass@n"]
    score = {kind: rows[1].means[kind]["score"] for kind in answer_kinds(rows)}
    assert [(e.mean, e.n) for e in score.values() if e] == [(0.5, 12), (0.75, 24), (1.0, 12)]
    assert rows[1].means["pass@n"]["valid"] is None


def test_the_reference_can_be_named(tmp_path):
    make(tmp_path, pair(seeds=(1,)))
    rows = compare_arms(read_sweep(tmp_path).arms, "sft")
    assert rows[1].differences["greedy"]["score"].mean == 0.25 and rows[2].differences["greedy"] == {}
    with pytest.raises(ConfigError, match="did you mean sft"):
        compare_arms(read_sweep(tmp_path).arms, "stf")


def test_bases_repeat_an_arm_and_are_paired_with_themselves(tmp_path):
    """Without `repeat_over` each base is an arm of its own."""
    shares = {"one": (0.5, 0.25), "two": (0.75, 0.5), "three": (1.0, 0.5)}
    make(
        tmp_path,
        [
            (
                cell(f"model.path={base}", f"routing={routing}", f"seed={seed}", ROWS),
                {**SHARES, "score": share},
            )
            for base, both in shares.items()
            for routing, share in zip(("vigos", "sft"), both, strict=True)
            for seed in (1, 2)
        ],
    )
    assert len(read_sweep(tmp_path).arms) == 9
    arms = read_sweep(tmp_path, ["model.path"]).arms
    assert [(arm.label, arm.trained, len(arm.runs)) for arm in arms] == [
        ("untrained, structured prompt", False, 3),
        ("vigos", True, 6),
        ("sft", True, 6),
    ]
    assert arms[1].settings.keys() & {"model.path", "seed"} == set()
    rows = compare_arms(arms)
    assert rows[1].means["greedy"]["score"].mean == 0.75  # type: ignore[union-attr]
    gap = rows[2].differences["greedy"]["score"]
    assert gap.mean == pytest.approx(-1 / 3) and gap.items == 6 * 12
    assert rows[0].differences["greedy"]["score"].mean == pytest.approx(-0.75)
    results = read_sweep(tmp_path, ["model.path"])
    assert any("the same 3 models" in line for line in limitations(results))
    assert [runs_text(arm) for arm in arms] == ["-", "6 (3 models)", "6 (3 models)"]
    assert runs_text(read_sweep(tmp_path).arms[-1]) == "2"
    write_report(tmp_path, repeat_over=["model.path"])
    page = " ".join((tmp_path / "report.html").read_text().split())
    assert "a bootstrap over models, seeds and questions" in page and "<td>6 (3 models)</td>" in page
    assert not any("several models" in line for line in warnings(results))
    apart = read_sweep(tmp_path)
    assert any("several models" in line for line in warnings(apart))


def test_two_bases_with_two_seeds_each_are_no_three_seeds(tmp_path):
    several = [
        (cell(f"model.path={base}", f"seed={seed}", ROWS), SHARES)
        for base in ("one", "two")
        for seed in (1, 2)
    ]
    make(tmp_path, several)
    few = "some arms have fewer than three seeds"
    assert any(few in line for line in warnings(read_sweep(tmp_path, ["model.path"])))
    third = (cell("model.path=three", "seed=1", ROWS), SHARES)
    make(tmp_path, [third])
    assert not any(few in line for line in warnings(read_sweep(tmp_path, ["model.path"])))
