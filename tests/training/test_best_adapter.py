"""The adapter with the best score is kept in best/, and an interrupted run keeps the same one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import distill_config
from runs import RUN
from safetensors.torch import load_file

from vigos_cli.evaluation.training_evaluation import TrainingEvaluation
from vigos_cli.models.adapter_folder import PROMPT_FILE
from vigos_cli.reporting.measures import evaluations, mean_score
from vigos_cli.training import loop
from vigos_cli.training.best_adapter import best_note, best_step, describe_best
from vigos_cli.training.distill import distill

FEW = (
    *RUN[1:],
    "trainer.steps=5",
    "trainer.batch=2",
    "trainer.eval_every=1",
    "trainer.checkpoint_every=4",
    "rollout.max_new_tokens=4",
    "bench.tasks.priorworld.rows=1",
    "bench.samples=0",
    "bench.max_new_tokens=4",
    "resume=auto",
)


def report(score: float | None, **benches: float) -> dict[str, Any]:
    """The figures of an evaluation, with intervals of plus and minus 0.1."""
    figures: dict[str, Any] = {}
    if score is not None:
        figures = {"score": score, "interval": {"score": (score - 0.1, score + 0.1)}}
    parts = {name: {"accuracy": {"mean": x, "low": x - 0.1, "high": x + 0.1}} for name, x in benches.items()}
    return figures | ({"benches": parts} if parts else {})


def test_the_score_is_the_mean_over_the_benchmarks():
    assert mean_score(report(0.5)) == pytest.approx((0.5, 0.4, 0.6))
    assert mean_score(report(None, a=0.7)) == pytest.approx((0.7, 0.6, 0.8))
    both = mean_score(report(0.2, a=0.4, b=0.5, c=0.9))
    assert both == pytest.approx((0.5, 0.45, 0.55)), "four equal half-widths: half of one"
    assert (
        mean_score({}) is None and mean_score({"score": None, "benches": {"x": {"accuracy": None}}}) is None
    )


def test_a_score_of_its_own_counts_before_the_accuracy():
    scored = {"mean": 0.3, "low": None, "high": None}
    bench = {"score": scored, "accuracy": {"mean": 0.9, "low": 0.8, "high": 1.0}}
    assert mean_score({"benches": {"vilp_f": bench}}) == (0.3, None, None)
    assert mean_score({"benches": {"a": bench, "b": bench}}) == (0.3, None, None)


def test_the_interval_of_a_mean_covers_as_often_as_it_says():
    import numpy as np

    from vigos_cli.utils.stats import wilson

    rng, shares, n = np.random.default_rng(0), (0.3, 0.8), 100
    covered = 0
    for _ in range(1000):
        parts = {}
        for name, share in zip("ab", shares, strict=True):
            mean = rng.binomial(n, share) / n
            low, high = wilson(mean, n)
            parts[name] = {"accuracy": {"mean": mean, "low": low, "high": high}}
        spread = mean_score({"benches": parts})
        assert spread and spread[1] is not None and spread[2] is not None
        covered += spread[1] <= sum(shares) / 2 <= spread[2]
    assert 0.93 <= covered / 1000 <= 0.97


@pytest.mark.parametrize(
    ("scores", "step"),
    [
        ((0.5, 0.6, 0.7), 2),
        ((0.5, 0.7, 0.7), 1),  # of equal scores the earliest
        ((0.5, 0.5, 0.4), 0),  # nothing beats the untrained model
        ((None, None, None), None),
        ((None, 0.1, None), 1),
    ],
)
def test_the_best_step(scores, step):
    found = dict(enumerate(map(report, scores)))
    assert best_step(found) == step
    best = describe_best(found)
    assert (best and best["step"]) == step
    assert (best and best["folder"]) == ("best" if step else None)


def test_evaluations_are_read_from_the_lines():
    lines = [{"step": 1}, {"step": 2, "eval": report(0.4)}, {"step": 3}]
    assert evaluations(report(0.1), lines) == {0: report(0.1), 2: report(0.4)}


def test_the_note_says_that_the_score_is_optimistic():
    found = {0: report(0.5), 3: report(0.75)}
    note = best_note(describe_best(found), found[0])
    for said in ("step 3", "0.750 [0.650, 0.850]", "untrained: 0.500", "2 evaluations", "optimistic"):
        assert said in note
    assert "no evaluation scored higher than the untrained model" in best_note(
        describe_best({0: report(0.5), 1: report(0.5)}), report(0.5)
    )
    assert "no evaluation has a score" in best_note(describe_best({0: {}}), {})


def scoring(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Give each evaluation the score of its step; the answers of the model stay as they are."""
    run = TrainingEvaluation.run

    def scored(self: Any, folder: Path, **options: Any) -> Any:
        figures, responses = run(self, folder, **options)
        name = folder.name
        step = {"before": 0, "after": len(scores) - 1}.get(name)
        score = scores[int(name.removeprefix("step-")) if step is None else step]
        interval = figures["interval"] | {"score": [score - 0.1, score + 0.1]}
        return figures | {"score": score, "interval": interval}, responses

    monkeypatch.setattr(TrainingEvaluation, "run", scored)


def tensors(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter_model.safetensors")


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def run(out: Path, *more: str) -> dict[str, Any]:
    summary = distill(distill_config(*FEW, f"out={out}", *more))
    assert summary
    return summary


def step_adapters(out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Any]]:
    """Record the adapter after every step of the next runs."""
    found: dict[int, dict[str, Any]] = {}
    train_step = loop.train_step

    def recorded(learner: Any, *rest: Any) -> Any:
        line = train_step(learner, *rest)
        found[learner.step] = {name: value.clone() for name, value in learner.student.adapter_state().items()}
        return line

    monkeypatch.setattr(loop, "train_step", recorded)
    return found


def values(state: dict[str, Any]) -> list[Any]:
    return [state[name] for name in sorted(state)]


@pytest.mark.slow
def test_the_best_adapter_and_the_last_one_are_kept(tmp_path, monkeypatch, capsys):
    scoring(monkeypatch, [0.2, 0.1, 0.6, 0.5, 0.4, 0.3])
    states = step_adapters(tmp_path, monkeypatch)
    summary = run(tmp_path / "run")
    out = tmp_path / "run"
    best = summary["best"]
    assert best["step"] == 2 and best["score"] == pytest.approx({"mean": 0.6, "low": 0.5, "high": 0.7})
    assert best["evaluations"] == 6 and "optimistic" in best["chosen_on"]
    assert "best/ is the adapter of step 2" in capsys.readouterr().out
    for folder, step in (("best", 2), ("adapter", 5)):
        pairs = zip(values(tensors(out / folder)), values(states[step]), strict=True)
        assert all(a.equal(b) for a, b in pairs), folder
    assert not equal(tensors(out / "best"), tensors(out / "adapter"))
    card = (out / "best" / "README.md").read_text()
    assert "2 steps of 2" in card and "the score is optimistic" in card.replace("\n", " ") and "0.600" in card
    assert "optimistic" not in (out / "adapter" / "README.md").read_text()
    files = sorted(file.name for file in (out / "best").iterdir())
    assert files == sorted(file.name for file in (out / "adapter").iterdir()) and PROMPT_FILE in files


@pytest.mark.slow
@pytest.mark.parametrize(("scores", "step"), [([0.5] * 5 + [0.4], 0), ([0.2] * 5 + [0.9], 5)])
def test_the_untrained_model_and_the_last_step_take_part(scores, step, tmp_path, monkeypatch):
    scoring(monkeypatch, scores)
    summary, out = run(tmp_path / "run"), tmp_path / "run"
    assert summary["best"]["step"] == step
    assert (out / "best").exists() == (step > 0)
    if step:
        assert equal(tensors(out / "best"), tensors(out / "adapter"))


@pytest.mark.slow
def test_a_run_without_evaluations_keeps_no_best_adapter(tmp_path):
    summary = run(tmp_path / "run", "trainer.steps=1", "trainer.eval_every=0")
    assert summary["best"] is None and not (tmp_path / "run" / "best").exists()


class Killed(BaseException):
    """Ends a run at a chosen place, like a signal that cannot be caught."""


def moments(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """End the run at the new best of step 3: before or after its checkpoint, or before or after best/."""
    save_learner, save_best = loop.save_learner, loop.save_best

    def learner(learner: Any, out: Path) -> None:
        if name == "before the checkpoint" and learner.step == 3:
            raise Killed
        save_learner(learner, out)
        if name == "after the checkpoint" and learner.step == 3:
            raise Killed

    def best(student: Any, config: Any, found: Any, step: int) -> None:
        if name == "while best/ is replaced" and step == 3:
            shutil.rmtree(Path(config.out) / "best")
            raise Killed
        save_best(student, config, found, step)
        if name == "after best/" and step == 3:
            raise Killed

    monkeypatch.setattr(loop, "save_learner", learner)
    monkeypatch.setattr(loop, "save_best", best)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run whose best step is 3, after a first best at step 1."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        scoring(patch, [0.1, 0.3, 0.2, 0.6, 0.5, 0.4])
        return out, run(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["before the checkpoint", "after the checkpoint", "while best/ is replaced", "after best/"]
)
def test_a_run_killed_around_a_new_best_keeps_the_same_best(moment, whole, tmp_path, monkeypatch):
    scoring(monkeypatch, [0.1, 0.3, 0.2, 0.6, 0.5, 0.4])
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        moments(patch, moment)
        with pytest.raises(Killed):
            run(out)
    logged = [json.loads(text)["step"] for text in (out / "metrics.jsonl").read_text().splitlines()]
    assert logged == [1, 2, 3]
    summary = run(out)
    assert summary["best"] == whole[1]["best"] and summary["best"]["step"] == 3
    for folder in ("best", "adapter"):
        assert equal(tensors(out / folder), tensors(whole[0] / folder)), folder


@pytest.mark.slow
def test_best_never_holds_a_step_after_the_checkpoint(tmp_path, monkeypatch):
    """Otherwise a run that is resumed with another rounding could keep the adapter of a step that it lost."""
    scoring(monkeypatch, [0.1, 0.3, 0.2, 0.6, 0.5, 0.4])
    out, seen, save_best = tmp_path / "run", [], loop.save_best

    def best(student: Any, config: Any, found: Any, step: int) -> None:
        seen.append((step, (out / "checkpoints" / f"step-{step:06d}" / "state.json").exists()))
        save_best(student, config, found, step)

    monkeypatch.setattr(loop, "save_best", best)
    run(out)
    assert seen == [(1, True), (3, True)]
