"""Two processes of one run, without a launcher, which would end one process when the other ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import distill_config
from runs import ENVIRONMENT, RUN, adapter, same, steps_logged
from torch import distributed
from torch.multiprocessing.spawn import spawn

from vigos_cli.ablation.cells import ERROR
from vigos_cli.ablation.run_cell import run_cell
from vigos_cli.config.compose import job
from vigos_cli.utils import process_group

TWO = Path(__file__).parents[1] / "two_ranks.py"
PATIENCE = 150  # seconds for two processes on a busy machine


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(out: Path, delay: float = 0.0) -> list[subprocess.Popen[str]]:
    """Start both processes of a run; the rollouts of the second take `delay` seconds longer."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(TWO), str(delay), *RUN, "resume=auto", f"out={out}"]
    return [
        subprocess.Popen(
            command,
            env={**ENVIRONMENT, **shared, "RANK": rank},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in "01"
    ]


def ends(processes: list[subprocess.Popen[str]], reached: Callable[[], bool] = lambda: True) -> list[int]:
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
        assert ends(processes) == [130, 130], [
            process.stdout and process.stdout.read() for process in processes
        ]
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


def alone_on_the_first(rank: int, port: int, folder: str) -> None:
    """Code of each process: the first works alone, longer than the time-out of torch.distributed."""
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    initialise = distributed.init_process_group
    distributed.init_process_group = lambda backend: initialise(backend, timeout=timedelta(seconds=1))
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
    spawn(alone_on_the_first, args=(free_port(), str(tmp_path)), nprocs=2)
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


@pytest.mark.parametrize("several", [False, True])
def test_a_cell_that_fails_in_one_of_several_processes_ends_the_sweep(several, tmp_path, monkeypatch):
    def fails(config: Any) -> None:
        raise RuntimeError("only here")

    monkeypatch.setattr("vigos_cli.training.distill.distill", fails)
    config = job("ablate", ["+experiment=main"])
    config.out = str(tmp_path)
    if several:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(RuntimeError, match="only here"):
            run_cell(config)
    else:
        assert run_cell(config) is None
    assert "only here" in (tmp_path / ERROR).read_text()


def test_a_signal_to_any_process_stops_all(monkeypatch, tmp_path):
    """The answers of the other processes count; here they are imitated."""
    from vigos_cli.training import loop

    config = distill_config("trainer.steps=3", f"out={tmp_path}")
    saved: list[int] = []

    class Learner:
        step = 0
        engine = None

    class Batches:
        data = range(8)

    def learn(learner: Any, *rest: Any) -> dict[str, Any]:
        learner.step += 1
        return {"grad_norm": 1.0}

    monkeypatch.setattr(loop, "train_step", learn)
    monkeypatch.setattr(loop, "save_learner", lambda learner, out: saved.append(learner.step))
    other = {tuple: (True, None, False)}  # it got a signal
    monkeypatch.setattr(process_group, "gather", lambda value: [value, other.get(type(value))])
    with pytest.raises(KeyboardInterrupt):
        loop.train(
            Learner(),  # type: ignore[arg-type]
            Batches(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            config,
            log=lambda line: None,
            evaluate=dict,
            before={},
            lines=(),
        )
    assert saved == [1]
