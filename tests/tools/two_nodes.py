"""Run vigos under torchrun with two agents on one machine, kill parts of it, and compare what remains.

python tests/tools/two_nodes.py FOLDER          # all checks with their times; about five minutes on two cores

Each agent of torchrun stands for one node: it has a process group of its own, and knows the other one only
through the rendezvous on 127.0.0.1.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

SMALL = (
    *("-m", "vigos_cli", "distill"),
    "resume=auto",
    "trainer.steps=6",
    "trainer.batch=4",
    "trainer.checkpoint_every=2",
    "rollout.max_new_tokens=48",
    "bench.tasks.priorworld.rows=1",
    "bench.samples=0",
)
PATIENCE = 120  # seconds after which a process counts as one that hangs


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Nodes:
    """Agents of torchrun, one for each node, that run one command together: `-m vigos_cli distill`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        nodes: int = 2,
        each: int = 1,
        restarts: int = 0,
        static: bool = False,
        logs: Path,
        folders: Sequence[Path] = (),
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        port, self.logs = free_port(), [logs / f"node{node}.log" for node in range(nodes)]
        self.agents = []
        for node, log in enumerate(self.logs):
            where = (
                [f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"]
                if static
                else ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=vigos"]
            )
            torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}"]
            some = [f"--nproc-per-node={each}", f"--max-restarts={restarts}", "--monitor-interval=0.1"]
            with log.open("ab") as file:
                agent = subprocess.Popen(
                    [*torchrun, *some, *where, *command],
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    cwd=folders[node] if folders else None,
                )
            self.agents.append(agent)
        self.seen: dict[int, psutil.Process] = {}

    def workers(self) -> list[psutil.Process]:
        """The processes of the run that live, in the order of their ranks."""
        found = []
        for agent in self.agents:
            try:
                children = psutil.Process(agent.pid).children()
            except psutil.NoSuchProcess:
                children = []
            self.seen.update({child.pid: child for child in children})
        for process in self.seen.values():
            try:
                if alive(process):
                    found.append((int(process.environ().get("RANK", "-1")), process))
            except psutil.Error:
                continue
        return [process for rank, process in sorted(found, key=lambda row: row[0]) if rank >= 0]

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Wait until `reached`; raises if the run ends before, or hangs."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            self.workers()
            assert time.monotonic() < deadline, f"not reached in {PATIENCE} s\n{self.log()}"
            assert any(agent.poll() is None for agent in self.agents), f"ended\n{self.log()}"
            time.sleep(0.05)

    def ends(self) -> tuple[list[int], list[float]]:
        """Wait until all agents and workers have ended; their exit codes and, in seconds, when each ended."""
        began, times = time.monotonic(), [0.0] * len(self.agents)
        left = set(range(len(self.agents)))
        while left or self.workers():
            took = time.monotonic() - began
            assert took < PATIENCE, f"hangs: agents {sorted(left)}, workers {self.workers()}\n{self.log()}"
            for node in sorted(left):
                if self.agents[node].poll() is not None:
                    times[node] = took
                    left.remove(node)
            time.sleep(0.05)
        return [int(agent.returncode) for agent in self.agents], [*times, time.monotonic() - began]

    def log(self) -> str:
        """The last lines that each agent and its workers have written."""
        return "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in self.logs)

    def kill(self) -> None:
        """End everything that still lives."""
        for process in [*self.workers(), *self.agents]:
            process.kill()
        for agent in self.agents:
            agent.wait()


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; a process that has ended and that nobody has waited for does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def lines_of(out: Path) -> int:
    """The number of steps whose figures a run has written."""
    metrics = out / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def adapter_of(out: Path) -> dict[str, torch.Tensor]:
    """The weights of the adapter that a run has trained."""
    return load_file(out / "adapter" / "adapter_model.safetensors")


def difference(one: Path, other: Path) -> float:
    """The largest difference between two adapters in one weight; 0 if they have the same bytes."""
    a, b = adapter_of(one), adapter_of(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@contextmanager
def running(out: Path, name: str, **options: Any) -> Iterator[Nodes]:
    """Nodes that run `SMALL` in the folder; whatever still lives at the end of the block is killed."""
    logs = options.pop("logs", out.parent / "logs" / name)
    nodes = Nodes([*SMALL, f"out={out}"], logs=logs, **options)
    try:
        yield nodes
    finally:
        nodes.kill()


def whole_run(out: Path, name: str, **options: Any) -> float:
    """Let the run go to its end; the seconds that it took."""
    began = time.monotonic()
    with running(out, name, **options) as nodes:
        codes, _ = nodes.ends()
        assert not any(codes), f"{codes}\n{nodes.log()}"
    return time.monotonic() - began


def killed_run(
    out: Path, name: str, *, rank: int | None = None, agent: int | None = None, **options: Any
) -> str:
    """Kill a process of the run in its fourth step; say when everything else had ended."""
    with running(out, name, **options) as nodes:
        nodes.wait_for(lambda: lines_of(out) >= 3)
        before = nodes.workers()
        (before[rank] if rank is not None else nodes.agents[agent or 0]).kill()
        codes, times = nodes.ends()
    agents = ", ".join(
        f"{seconds:.1f} s (exit code {code})" for code, seconds in zip(codes, times, strict=False)
    )
    return (
        f"agents ended after {agents}; all processes after {times[-1]:.1f} s; {lines_of(out)} steps written"
    )


def main(base: Path) -> None:
    """All checks; prints a line for each."""
    whole, killed = base / "whole", base / "killed"
    print(f"two nodes, uninterrupted: {whole_run(whole, 'whole'):.0f} s")
    print(f"rank 1 killed: {killed_run(killed, 'killed', rank=1)}")
    for count, shape in ((2, (2, 1)), (1, (1, 1)), (3, (3, 1)), (4, (2, 2))):
        out = base / f"resumed-{count}"
        shutil.copytree(killed, out)
        whole_run(out, f"resumed-{count}", nodes=shape[0], each=shape[1])
        print(
            f"  resumed with {count} processes: {difference(out, whole):.1e} in the weight that differs most"
        )
    alone = base / "alone"
    whole_run(alone, "alone", nodes=1)
    print(f"one process from the start: {difference(alone, whole):.1e}")
    for static in (False, True):
        kind = "static" if static else "c10d"
        for place in ({"rank": 0}, {"agent": 0}, {"agent": 1}):
            name = f"{kind}-{'-'.join(f'{key}{value}' for key, value in place.items())}"
            print(f"{name}: {killed_run(base / name, name, static=static, **place)}")
        for rank in (0, 1):
            name = f"{kind}-restart-rank{rank}"
            text = killed_run(base / name, name, static=static, restarts=1, rank=rank)
            print(f"{name}: {text}; {difference(base / name, whole):.1e}")
    name = "one-node-agent"
    print(f"{name}: {killed_run(base / name, name, nodes=1, each=2, agent=0)}")
    apart = [base / "machine-0", base / "machine-1"]
    for folder in apart:
        folder.mkdir(parents=True)
    with running(Path("runs/a"), "apart", logs=base / "logs" / "apart", folders=apart) as nodes:
        codes, times = nodes.ends()
        print(f"folders that are not shared: exit codes {codes} after {times[-1]:.0f} s")
        for log in nodes.logs:
            print("  " + "\n  ".join(line for line in log.read_text().splitlines() if "vigos:" in line))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).resolve())
