"""`curves.png` shows scores with intervals, valid rate, length, and what was clipped and cut off."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from vigos_cli.reporting.curves import draw_curves

LINES = [
    {
        "step": step,
        "valid_rate": 1 - step / 10,
        "tokens_per_rollout": 100.0 + step,
        "clip_rate": step / 20,
        "cut_off_rate": step / 40,
        "loss/reasoning": 0.5,
        **({"loss/my own teacher": 0.75} if step > 2 else {}),
        "divergence/answer": 0.25,
        "grad_norm": None if step == 2 else step / 2,
        "sampler_gap/mean": 1e-4 * step,
    }
    for step in range(1, 5)
]


def accuracy(mean: float) -> dict[str, Any]:
    return {"accuracy": {"mean": mean, "low": mean - 0.1, "high": mean + 0.2, "n": 10}}


@pytest.fixture
def figure(monkeypatch, tmp_path, figures):
    """A function that draws curves and returns the axes by title."""
    written: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: written.append(self) or save(self, *a, **k))

    def draw(evaluations: dict[int, Any], **options: Any) -> dict[str, Any]:
        draw_curves(LINES, evaluations, tmp_path / "curves.png", "a run", **options)
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        return {axis.get_title(): axis for axis in written[-1].axes}

    return draw


def labels(axis: Any) -> set[str]:
    return {text.get_text() for text in axis.get_legend().get_texts()}


def points(axis: Any, label: str) -> list[list[float]]:
    (line,) = [line for line in axis.lines if line.get_label() == label]
    return [list(line.get_xdata()), list(line.get_ydata())]


@pytest.mark.slow
def test_every_figure_of_a_step_has_its_panel(figure):
    axes = figure({0: {}, 4: {}})
    assert len(axes) == 8
    assert points(axes["Rollouts"], "valid") == [[1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6]]
    assert points(axes["Length of rollouts"], "mean of a step")[1] == [101, 102, 103, 104]
    assert labels(axes["Clipped and cut off"]) == {"tokens above the clip", "rollouts cut off"}
    assert points(axes["Clipped and cut off"], "rollouts cut off")[1] == [0.025, 0.05, 0.075, 0.1]
    assert points(axes["Norm of the gradient"], "of the adapter") == [[1, 3, 4], [0.5, 1.5, 2.0]]
    gap = axes["Sampler against trainer, sampled tokens"]
    assert labels(gap) == {"mean of a step"} and gap.get_yscale() == "log"
    assert labels(axes["Loss by teacher"]) == {"reasoning", "my own teacher"}
    assert points(axes["Loss by teacher"], "my own teacher") == [[3, 4], [0.75, 0.75]]


@pytest.mark.slow
def test_scores_have_intervals_and_the_best_step_is_marked(figure):
    held_out = {0: {"benches": {"a": accuracy(0.5)}}, 2: {"benches": {"a": accuracy(0.7)}}}
    axis = figure(held_out, best=2)["Held out, greedy, 95 % intervals"]
    assert labels(axis) == {"a, accuracy", "best score: step 2"}
    assert points(axis, "best score: step 2")[0] == [2, 2]
    (bars,) = axis.containers
    ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert [pytest.approx(end) for end in ends] == [[0.4, 0.7], [0.6, 0.9]]


@pytest.mark.slow
def test_several_benchmarks_have_their_mean(figure):
    benches = {"benches": {"a": accuracy(0.5), "b": accuracy(0.7)}}
    axis = figure({0: benches, 2: benches})["Held out, greedy, 95 % intervals"]
    assert labels(axis) == {"a, accuracy", "b, accuracy", "mean of the benchmarks"}
