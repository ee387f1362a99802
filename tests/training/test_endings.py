"""However a run ends, its results so far are on disk and all files and engines are closed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import distill_config
from safetensors.torch import load_file

from vigos_cli.__main__ import main
from vigos_cli.analysis import rollout_run
from vigos_cli.cli.launch import Flags, launch
from vigos_cli.config.compose import job
from vigos_cli.evaluation import asker
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.evaluation.training_evaluation import TrainingEvaluation
from vigos_cli.generation.engine import InProcess
from vigos_cli.supervision.batches import Batches
from vigos_cli.training import distill as distilling
from vigos_cli.training import loop, step, tracking
from vigos_cli.training.distill import distill
from vigos_cli.utils.errors import UserError

SMALL = ("trainer.steps=1", "trainer.batch=2", "bench.tasks.priorworld.rows=1", "bench.samples=0")
WAYS = [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(3)]
ways = pytest.mark.parametrize("error", WAYS, ids=lambda error: type(error).__name__)


class Recorded(InProcess):
    """The engine in process; it records each time that it is closed."""

    def __init__(self, student: Any, closed: list[str]):
        super().__init__(student)
        self.closed = closed

    def close(self) -> None:
        self.closed.append("engine")


class Store:
    """A tracker's store that records when it is closed."""

    def __init__(self, closed: list[str]):
        self.closed = closed

    def log(self, *given: Any) -> None: ...
    def completions(self, *given: Any) -> None: ...
    def close(self, *given: Any, **more: Any) -> None:
        self.closed.append("store")


@pytest.fixture
def closed(monkeypatch) -> list[str]:
    """The list of the objects that the runs of this test closed."""
    found: list[str] = []
    for module in (distilling, rollout_run, asker):
        monkeypatch.setattr(module, "engine_of", lambda config, student: Recorded(student, found))
    monkeypatch.setattr(tracking, "open_store", lambda *given, **more: Store(found))
    close = Batches.close
    monkeypatch.setattr(Batches, "close", lambda self: (found.append("batches"), close(self))[1])
    return found


def failing(
    monkeypatch: pytest.MonkeyPatch, target: Any, name: str, error: BaseException, when: int = 1
) -> None:
    """Make the `when`-th call of a function raise an error."""
    original, calls = getattr(target, name), [0]

    def wrapped(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == when:
            raise error
        return original(*args, **options)

    monkeypatch.setattr(target, name, wrapped)


@pytest.mark.slow
@ways
def test_if_the_last_evaluation_fails_only_that_is_repeated(error, tmp_path, monkeypatch, closed):
    config = distill_config(*SMALL, f"out={tmp_path / 'run'}", "resume=auto")
    with monkeypatch.context() as patch:
        failing(patch, TrainingEvaluation, "run", error, when=2)  # call 1 is the evaluation before training
        with pytest.raises(type(error)):
            distill(config)
    out = tmp_path / "run"
    assert sorted(closed) == ["batches", "engine", "store"]
    weights = (out / "adapter" / "adapter_model.safetensors").read_bytes()
    assert any(bool(p.any()) for name, p in load_file(out / "adapter" / "adapter_model.safetensors").items())
    assert "not measured" in (out / "adapter" / "README.md").read_text()
    assert not (out / "summary.json").exists()

    failing(monkeypatch, loop, "train_step", AssertionError("it learned again"))
    summary = distill(config)
    assert summary and summary["steps"] == 1 and summary["after"]["n"]
    assert (out / "adapter" / "adapter_model.safetensors").read_bytes() == weights
    card = (out / "adapter" / "README.md").read_text()
    assert "not measured" not in card and "score" in card.casefold()
    assert {file.name for file in (out / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "vigos.json",
    }


@ways
def test_a_run_that_fails_in_training_closes_everything(error, tmp_path, monkeypatch, closed):
    failing(monkeypatch, step, "supervise_all", error)
    with pytest.raises(type(error)):
        distill(distill_config(*SMALL, f"out={tmp_path / 'run'}"))
    assert sorted(closed) == ["batches", "engine", "store"]


@pytest.mark.slow
@ways
def test_a_failed_evaluation_and_a_failed_rollout_close_their_engine(error, tmp_path, monkeypatch, closed):
    failing(monkeypatch, asker, "answer", error)
    failing(monkeypatch, rollout_run, "score_tokens", error)
    with pytest.raises(type(error)):
        evaluate(job("eval", [*SMALL[2:], f"out={tmp_path / 'eval'}"]))
    assert closed == ["engine"]
    with pytest.raises(type(error)):
        rollout_run.sample(job("rollout", ["limit=1", f"out={tmp_path / 'rollout'}"]))
    assert closed == ["engine", "engine"]


def test_sigterm_ends_a_command_like_ctrl_c(tmp_path, monkeypatch, capsys):
    ended = []

    def run(config: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)
        finally:
            ended.append(Path(config.out).name)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("vigos_cli.cli.commands.distill.run", run)
    assert launch("distill", [f"out={tmp_path / 'run'}"], Flags()) == 130
    assert ended == ["run"] and "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


class Interrupted:
    """A module that Ctrl-C interrupts while it is imported."""

    def __getattr__(self, name: str) -> Any:
        raise KeyboardInterrupt


@pytest.mark.parametrize("module", ["vigos_cli.cli.app", "vigos_cli.cli.launch"])
def test_ctrl_c_during_the_first_imports_is_one_line(module, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, Interrupted())
    monkeypatch.setattr(sys, "argv", ["vigos", "distill"])
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "vigos: interrupted\n"


def test_the_time_of_a_phase_includes_pending_work_of_the_gpu(tiny, monkeypatch):
    """A GPU returns before its work is finished; a fake device whose `synchronize` waits imitates this."""
    import torch

    from vigos_cli.training.learner import Learner

    class Device:
        type = "cuda"

    class Student:
        device = Device()

    pending = [0.0]

    def synchronize(device: Any) -> None:
        time.sleep(pending[0])
        pending[0] = 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    learner = Learner(Student(), None, None)  # type: ignore[arg-type]
    with learner.timed("rollout"):
        pending[0] = 0.05
    with suppress(KeyError), learner.timed("learn"):
        raise KeyError
    assert learner.seconds["rollout"] >= 0.05 and learner.seconds["learn"] < 0.04


@pytest.mark.slow
def test_allowed_changes_of_keys_are_in_the_summary(tmp_path):
    first = distill_config(*SMALL, "trainer.steps=2", "trainer.checkpoint_every=1", f"out={tmp_path / 'run'}")
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, loop, "train_step", MemoryError(), when=2)
        with pytest.raises(MemoryError):
            distill(first)
    again = (
        "trainer.micro_batch=1",
        "trainer.gradient_checkpointing=true",
        "loss.chunk=16",
        "rollout.batch=1",
    )
    summary = distill(
        distill_config(*SMALL, "trainer.steps=2", *again, f"out={tmp_path / 'run'}", "resume=auto")
    )
    assert summary and summary["steps"] == 2
    (change,) = summary["changes"]
    assert change["step"] == 1 and change["changed"]["trainer.micro_batch"] == [32, 1]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["loss"]["chunk"] == 16


@pytest.mark.slow
def test_a_run_whose_folder_is_removed_does_not_make_half_a_folder(tmp_path, monkeypatch):
    out, train_step = tmp_path / "run", loop.train_step

    def remove(*given: Any) -> Any:
        shutil.rmtree(out)
        return train_step(*given)

    monkeypatch.setattr(loop, "train_step", remove)
    with pytest.raises(UserError, match="was removed while the run used it"):
        distill(distill_config(*SMALL, f"out={out}"))
    assert not (out / "summary.json").exists() and not (out / "checkpoints").exists()


@pytest.mark.slow
def test_an_evaluation_whose_folder_is_removed_writes_no_scores(tmp_path, monkeypatch):
    out, answer = tmp_path / "run", asker.answer

    def remove(*given: Any) -> Any:
        shutil.rmtree(out)
        out.mkdir()
        return answer(*given)

    monkeypatch.setattr(asker, "answer", remove)
    with pytest.raises(UserError, match="was removed while the run used it"):
        evaluate(job("eval", [f"out={out}", "bench.tasks.priorworld.rows=1", "bench.samples=0"]))
    assert not (out / "scores.json").exists()
