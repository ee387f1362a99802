"""Two processes of one run, without a launcher, which would end one process when the other ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import two_ranks
import warm
from conftest import distill_config
from runs import RUN, adapter, same, steps_logged
from torch import distributed

from vigos_cli.ablation.cells import ERROR
from vigos_cli.ablation.run_cell import run_cell
from vigos_cli.config.compose import job
from vigos_cli.training.distill import distill
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError

PATIENCE = 150  # seconds for two processes on a busy machine


def start(out: Path, delay: float = 0.0, more: Sequence[str] = ()) -> list[warm.Process]:
    """Start both processes of a run; the rollouts of the second take `delay` seconds longer."""
    return warm.start_both(two_ranks.vigos, [*RUN, "resume=auto", f"out={out}", *more], delay)


def ends(processes: list[warm.Process], reached: Callable[[], bool] = lambda: True) -> list[int]:
    """Wait until `reached`, then until the processes end; a process that hangs fails the test."""
    deadline = time.monotonic() + PATIENCE
    while not reached() and any(process.poll() is None for process in processes):
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.02)
    return [process.wait(timeout=max(1, deadline - time.monotonic())) for process in processes]


@pytest.mark.slow
def test_interrupted_runs_of_two_processes_end_with_the_same_adapter(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert ends(start(whole)) == [0, 0]

    processes = start(out, delay=3.0)
    try:
        while steps_logged(out) < 1:
            assert processes[0].poll() is None
            time.sleep(0.02)
        processes[0].send_signal(signal.SIGINT)  # while the other is some seconds behind
        assert ends(processes) == [130, 130], [process.printed(1) for process in processes]
        stopped = steps_logged(out)
        assert (out / "checkpoints" / f"step-{stopped:06d}" / "state.json").exists()
        assert stopped < 6

        processes = start(out)
        while steps_logged(out) < 5:  # one step after the checkpoint of step 4
            assert processes[0].poll() is None
            time.sleep(0.005)
        for process in processes:
            process.kill()
        assert ends(processes) == [-signal.SIGKILL] * 2
        assert not (out / "summary.json").exists()
        shutil.copytree(out, tmp_path / "alone")

        processes = start(out)
        assert ends(processes) == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert same(adapter(out), adapter(whole))
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (out, whole)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 6

    # One process goes on where two were killed. It sums the gradient in another order.
    distill(distill_config(*RUN[1:], "resume=auto", f"out={tmp_path / 'alone'}"))
    alone, both = adapter(tmp_path / "alone"), adapter(out)
    assert max(float((alone[name] - both[name]).abs().max()) for name in both) < 1e-6


def alone_on_the_first(folder: str) -> None:
    """Code of each process: the first works alone, longer than the time-out of torch.distributed."""
    rank = int(os.environ["RANK"])
    initialise = distributed.init_process_group
    distributed.init_process_group = lambda backend: initialise(backend, timeout=timedelta(seconds=1))
    Path(folder, f"{rank}.ready").touch()
    while not Path(folder, f"{1 - rank}.ready").exists():  # the time-out holds for joining too
        time.sleep(0.01)
    process_group.start(torch.device("cpu"))
    seen: dict[str, Any] = {}
    with process_group.first_alone() as mine:
        if mine:
            time.sleep(3)
            seen = {
                "rank": process_group.rank(),
                "size": process_group.size(),
                "gathered": process_group.gather("x"),
            }
            process_group.wait()
    seen |= {"mine": mine, "together": process_group.gather(rank), "slow": []}
    if rank == 1:
        time.sleep(3)  # the others also wait for a slow process
    seen["slow"] = process_group.gather(rank)
    Path(folder, f"{rank}.json").write_text(json.dumps(seen))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_the_first_process_may_work_alone_longer_than_the_time_out(tmp_path):
    assert ends(warm.start_both(alone_on_the_first, str(tmp_path))) == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == {
        "rank": 0,
        "size": 1,
        "gathered": ["x"],
        "mine": True,
        "together": [0, 1],
        "slow": [0, 1],
    }
    assert second["mine"] is False and second["together"] == [0, 1]


def test_a_single_process_counts_as_first_and_alone():
    with process_group.first_alone() as mine:
        assert mine and process_group.size() == 1


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_a_cell_that_fails_in_one_of_several_processes_ends_the_sweep(several, tmp_path, monkeypatch):
    def fails(config: Any) -> None:
        raise RuntimeError("only here")

    monkeypatch.setattr("vigos_cli.training.distill.distill", fails)
    config, cell = job("ablate", ["+experiment=main"]), tmp_path / "sweep" / "cell"
    config.out = str(cell)
    cell.mkdir(parents=True)
    if several:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setattr(process_group, "start", lambda device: None)  # there is no second process
        with pytest.raises(RuntimeError, match="only here"):
            run_cell(config)
    else:
        assert run_cell(config) is None
    assert "only here" in (cell / ERROR).read_text()


class Learner:
    """A learner whose steps are counted and do nothing."""

    step = 0
    engine = None
    student = None

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        yield


def train_with(
    others: tuple[bool, str | None, bool], rank: int, out: Path, patch: pytest.MonkeyPatch
) -> tuple[list[str], str | None]:
    """Train for three steps in one of two processes; `others` is what the other one says after each step.

    Returns what was saved, by step, and why the run was stopped.
    """
    from vigos_cli.training import loop

    saved: list[str] = []

    class Batches:
        data = range(8)

    def learn(learner: Any, *rest: Any) -> dict[str, Any]:
        learner.step += 1
        return {"grad_norm": 1.0}

    def gather(value: Any) -> list[Any]:
        other = others if isinstance(value, tuple) else None
        return [value, other] if rank == 0 else [other, value]

    patch.setattr(loop, "train_step", learn)
    patch.setattr(loop, "save_learner", lambda learner, out: saved.append(f"checkpoint {learner.step}"))
    patch.setattr(loop, "save_best", lambda student, config, found, step: saved.append(f"best {step}"))
    patch.setattr(process_group, "gather", gather)
    patch.setattr(process_group, "rank", lambda: rank)
    try:
        why = loop.train(
            Learner(),  # type: ignore[arg-type]
            Batches(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            distill_config("trainer.steps=3", f"out={out}"),
            log=lambda line: None,
            evaluate=dict,
            before={},
            lines=(),
        )
    except KeyboardInterrupt:
        return [*saved, "interrupted"], None
    return saved, why


def test_a_resumed_run_knows_how_many_steps_in_a_row_had_no_gradient(monkeypatch, tmp_path):
    """Otherwise a run that is killed often takes many steps without a gradient before it says so."""
    from vigos_cli.training import loop

    def learn(learner: Any, *rest: Any) -> dict[str, Any]:
        learner.step += 1
        return {"step": learner.step, "grad_norm": None, "rollouts": 0}

    class Batches:
        data = range(8)

    monkeypatch.setattr(loop, "train_step", learn)
    monkeypatch.setattr(loop, "save_learner", lambda learner, out: None)
    norms = (1.0, None, None)
    lines = [{"step": n, "grad_norm": norm, "rollouts": 0} for n, norm in enumerate(norms, 1)]
    learner = Learner()
    learner.step = 3
    with pytest.raises(UserError, match="no finite gradient for 3 steps up to step 4"):
        loop.train(
            learner,  # type: ignore[arg-type]
            Batches(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            distill_config("trainer.steps=8", f"out={tmp_path}"),
            log=lines.append,
            evaluate=dict,
            before={},
            lines=lines,
        )


def test_a_signal_to_any_process_stops_all(monkeypatch, tmp_path):
    saved, _ = train_with((True, None, False), 0, tmp_path, monkeypatch)
    assert saved == ["checkpoint 1", "interrupted"]


def test_the_first_process_decides_about_the_best_adapter_and_writes_it(monkeypatch, tmp_path):
    saved, why = train_with((False, None, True), 1, tmp_path, monkeypatch)
    assert saved == ["checkpoint 1", "checkpoint 2", "checkpoint 3"] and why is None, (
        "all wait at a checkpoint"
    )
    saved, _ = train_with((False, None, True), 0, tmp_path, monkeypatch)
    assert saved == ["checkpoint 3"], "the second process does not decide"


def test_the_first_process_decides_about_a_collapse(monkeypatch, tmp_path):
    assert train_with((False, "it collapsed", False), 1, tmp_path, monkeypatch) == (
        ["checkpoint 1"],
        "it collapsed",
    )
    assert train_with((False, "it collapsed", False), 0, tmp_path, monkeypatch)[1] is None


@pytest.mark.slow
def test_two_processes_stop_at_a_collapse_together(tmp_path):
    high = ("trainer.lr=0.3", "trainer.batch=8", "trainer.collapse_steps=3", "rollout.max_new_tokens=64")
    for _ in range(2):  # the second time, the run is stopped already
        assert ends(start(tmp_path / "run", more=high)) == [3, 3]
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["stopped"] == "collapse" and summary["steps"] == 4
