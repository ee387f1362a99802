"""`vigos eval compare=`: which folders are one run, and which answers of two runs are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vigos_cli.evaluation.run_comparison import compare_runs, comparison_markdown
from vigos_cli.utils.errors import UserError


def run(folder: Path, *rights: list[int], **more: Any) -> str:
    """Write a run with a list of draws for each item, each right or wrong. Returns its folder."""
    folder.mkdir(parents=True)
    made = [
        {"id": str(i), "draw": draw, "verdict": "right" if right else "wrong", "extracted": str(right)}
        | {"bench": "x", "part": "", "cluster": str(i)}
        | {name: value[min(draw, 1)] if isinstance(value, tuple) else value for name, value in more.items()}
        for i, draws in enumerate(rights)
        for draw, right in enumerate(draws)
    ]
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    return str(folder)


# ---- which folders are one run


def test_a_run_inside_the_folder_of_another_run_is_separate(tmp_path):
    outer, inner = run(tmp_path / "p0", [1], [1], [1]), run(tmp_path / "p0" / "blind", [0], [0], [1])
    (found,) = compare_runs([outer, inner])
    assert (found.first, found.other, found.items, found.test) == (1.0, 1 / 3, 3, "McNemar")


def test_several_benchmarks_are_one_run_and_several_runs_are_not(tmp_path):
    for name in ("a", "b"):
        run(tmp_path / "two" / name, [1], [0], bench=name)
        run(tmp_path / "runs" / name, [1], [0])
    assert [found.bench for found in compare_runs([str(tmp_path / "two")] * 2)] == ["a", "b"]
    places = f"{tmp_path / 'runs' / 'a'} and in {tmp_path / 'runs' / 'b'}"
    with pytest.raises(UserError, match=f"not one run: item 0 of x, draw 0, is there twice, in {places}"):
        compare_runs([str(tmp_path / "two"), str(tmp_path / "runs")])


# ---- which answers are compared


def test_saved_samples_are_compared_with_sampled_answers(tmp_path):
    saved = run(tmp_path / "saved", [0, 1], [0, 1], answers="sampled")
    asked = run(tmp_path / "asked", [1, 1, 1], [1, 0, 1], answers=("greedy", "sampled"))
    (found,) = compare_runs([saved, asked])
    assert (found.answers, found.first, found.other, found.unchanged) == ("sampled", 0.5, 0.75, None)


def test_single_saved_answers_are_compared_with_greedy_answers(tmp_path):
    saved = run(tmp_path / "saved", [0], [1], answers="saved")
    asked = run(tmp_path / "asked", [1, 0], [1, 0], answers=("greedy", "sampled"))
    for runs in ((saved, asked), (saved, saved)):
        (found,) = compare_runs(runs)
        assert (found.answers, found.test) == ("one each", "McNemar")
    (found,) = compare_runs([saved, asked])
    assert (found.first, found.other, found.unchanged) == (0.5, 1.0, 0.5)
    assert "| x | one each | 0.500 | 1.000 |" in comparison_markdown([found])


def test_in_old_runs_the_first_draw_counts_as_greedy(tmp_path):
    old = run(tmp_path / "old", [1, 0, 0], [0, 0, 0])
    new = run(tmp_path / "new", [1, 1, 0], [1, 0, 0], answers=("greedy", "sampled"))
    greedy, sampled = compare_runs([old, new])
    assert (greedy.answers, greedy.first, greedy.other) == ("greedy", 0.5, 1.0)
    assert (sampled.answers, sampled.first, sampled.other) == ("sampled", 0.0, 0.25)
