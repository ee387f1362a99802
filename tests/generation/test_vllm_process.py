"""`rollout.serve=true`: the server starts, is watched, and ends with the run however the run ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import distill_config
from loopback import FakeVllm

from vigos_cli.generation import engine, vllm_process
from vigos_cli.generation.concurrent_requests import ask_all, stopping_if
from vigos_cli.generation.server_keeper import MARK, identity, marked, start_time
from vigos_cli.generation.server_records import end_orphans, records_folder
from vigos_cli.generation.vllm_process import VllmProcess, free_port
from vigos_cli.training.distill import distill
from vigos_cli.utils.errors import ConfigError, UserError

FAKE = str(Path(__file__).parents[1] / "fake_vllm.py")
SERVE = ("rollout=vllm", "rollout.serve=true")
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are recognised by /proc")

# A run of its own process, which is then killed or interrupted.
RUN = f"""
import os, sys, time
from pathlib import Path
from vigos_cli.generation import vllm_process
vllm_process.GRACE = 0.5
port = vllm_process.free_port()
process = vllm_process.VllmProcess(port, Path(sys.argv[1]))
command = [sys.executable, {FAKE!r}, sys.argv[2], "serve", "model", "--port", str(port)]
try:
    process.start(command, {{**os.environ, "{MARK}": sys.argv[3]}})
    process.wait_until_ready(60)
    if not os.fork():  # it keeps the pipe to the keeper open for a while, like a process of a data loader
        os.close(1), os.close(2), time.sleep(15), os._exit(0)
    print("ready", flush=True)
    time.sleep(600)
finally:
    process.close()
"""


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(vllm_process, "GRACE", 0.5)


def fake(ways: str, port: int) -> list[str]:
    return [sys.executable, FAKE, ways, "serve", "model", "--port", str(port)]


def serving(ways: str) -> tuple[str, ...]:
    return (*SERVE, f"rollout.serve_command=[{sys.executable},{FAKE},{ways}]")


def begin(out: Path, ways: str, mark: str) -> VllmProcess:
    process = VllmProcess(free_port(), out)
    process.start(fake(ways, process.port), {**os.environ, MARK: mark})
    return process


def pids(out: Path) -> list[int]:
    """The process numbers of the last server and its child."""
    return [int(n) for n in re.findall(r"PIDS (\d+) (\d+)", (out / "vllm.log").read_text())[-1]]


def gone(numbers: list[int], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while any(start_time(pid) is not None for pid in numbers):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def no_records(seconds: float = 10) -> bool:
    """Whether all records are removed, which a keeper does last."""
    until = time.monotonic() + seconds
    while list(records_folder().glob("*")):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


# ---------------------------------------------------------------- one server


@pytest.mark.slow
@linux
@pytest.mark.parametrize("ways", ["plain", "stubborn", "stubborn+apart"])
def test_closing_ends_the_server_and_its_child_in_whatever_session(ways, tmp_path, capsys):
    process = begin(tmp_path, ways, f"a{ways}")
    process.wait_until_ready(60)
    started = pids(tmp_path)
    assert process.ended() is None and len(marked(f"a{ways}")) == 3  # with the keeper
    process.close()
    assert gone(started, 0) and no_records(0)
    process.close()  # a second time does nothing
    assert "ready after" in capsys.readouterr().err


def test_a_server_that_ends_at_once_is_named_with_the_end_of_its_own_messages(tmp_path):
    (tmp_path / "vllm.log").write_text("of an earlier start\n")
    process = begin(tmp_path, "dies", "b")
    with pytest.raises(UserError) as caught:
        process.wait_until_ready(60)
    process.close()
    head, *tail = str(caught.value).splitlines()
    assert "ended with exit code 3 before it was ready" in head and str(tmp_path / "vllm.log") in head
    assert tail[1:] == ["INFO: loading weights", "ValueError: [/red] no such model"]


@pytest.mark.slow
@linux
def test_a_server_that_never_answers_is_ended_after_the_patience(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vllm_process, "EVERY", 0.2)
    process = begin(tmp_path, "never", "c")
    with pytest.raises(UserError, match=r"not ready after 1 s \(rollout.patience\)") as caught:
        process.wait_until_ready(1)
    process.close()
    assert "PIDS" in str(caught.value) and gone(pids(tmp_path), 0)
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) > 2 and re.fullmatch(r"vllm: starting, \d s so far  PIDS \d+ \d+", shown[-1])


@pytest.mark.slow
def test_requests_stop_at_once_if_the_server_ends(tmp_path):
    process = begin(tmp_path, "hangs", "d")
    process.wait_until_ready(60)
    config = distill_config("rollout=vllm", f"rollout.url={process.url}").rollout

    async def ask(server: Any, item: int) -> None:
        if item == 1:
            os.kill(pids(tmp_path)[0], signal.SIGKILL)
        await server.ask("/completions", {"model": "m"}, read=bytes)

    began = time.monotonic()
    with pytest.raises(UserError) as caught, stopping_if(process.ended):
        ask_all(config, None, [0, 1], ask)
    assert time.monotonic() - began < 20
    assert "exit code 137 during the run: resume=auto starts a new one" in str(caught.value)
    process.close()


# ---------------------------------------------------------------- however the run ends


@pytest.fixture
def run(tmp_path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(ways: str, mark: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RUN, str(tmp_path), ways, mark]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert started[-1].stdout and started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_the_server_ends_if_its_run_is_killed_or_interrupted(number, run, tmp_path):
    killed = run("plain", "e")
    killed.send_signal(number)
    killed.wait(30)
    assert gone(pids(tmp_path), 5) and no_records()


@pytest.mark.slow
@linux
def test_the_next_start_names_and_ends_a_server_that_outlived_run_and_keeper(run, tmp_path, capsys):
    killed = run("stubborn+apart", "f")
    file = records_folder() / "f.json"
    until = time.monotonic() + 10
    while not file.exists() and time.monotonic() < until:  # a slow keeper writes it after the server answers
        time.sleep(0.02)
    record = json.loads(file.read_text())
    end_orphans()
    assert not capsys.readouterr().err and len(marked("f")) == 3  # a server whose run lives
    # The keeper first, so that it cannot end the server; Linux then sends SIGTERM, which the server ignores.
    os.kill(record["keeper"]["pid"], signal.SIGKILL)
    killed.kill()
    killed.wait(30)
    assert gone([record["keeper"]["pid"]])
    left = pids(tmp_path)
    assert not gone(left, 0.3)
    end_orphans(grace=0.3)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(tmp_path) in said and str(left[0]) in said
    assert gone(left) and no_records()


@linux
def test_a_process_that_has_the_number_of_a_server_is_not_touched(tmp_path, capsys):
    """Its number was used again. Neither the record's start time nor the mark is that of the process."""
    with subprocess.Popen(["sleep", "60"]) as foreign:
        records_folder().mkdir(parents=True)
        now = identity(foreign.pid)
        old = {"pid": foreign.pid, "start": (now["start"] or 0) - 1}
        record = {"host": os.uname().nodename, "port": 1, "out": "x", "mark": "g", "command": ["sleep", "60"]}
        record |= {"run": old, "keeper": old, "server": now}
        (records_folder() / "g.json").write_text(json.dumps(record))
        (records_folder() / "damaged.json").write_text("{")
        end_orphans()
        assert foreign.poll() is None and not capsys.readouterr().err
        assert not (records_folder() / "g.json").exists()
        foreign.kill()


# ---------------------------------------------------------------- in a run


@pytest.mark.slow
def test_a_run_whose_server_dies_ends_with_its_log_and_is_resumed_with_a_new_server(
    tmp_path, monkeypatch, capsys
):
    behind = FakeVllm()
    behind.start()
    monkeypatch.setenv("BEHIND", behind.url)
    few = ("trainer.steps=2", "trainer.batch=2", "trainer.checkpoint_every=1", "bench.samples=0")
    few += ("bench.tasks.priorworld.rows=1", "bench.max_new_tokens=20", "rollout.max_new_tokens=20")
    out = f"out={tmp_path / 'run'}"
    with pytest.raises(UserError, match=r"exit code 9 during the run.*\n(.*\n)*torch.AcceleratorError"):
        distill(distill_config(*few, out, *serving("dies_on_2nd")))
    first = pids(tmp_path / "run")
    behind.models = {name: s for name, s in behind.models.items() if s is behind.base}
    summary = distill(distill_config(*few, out, "resume=auto", *serving("plain")))
    behind.stop()
    assert summary and summary["steps"] == 2 and gone([*first, *pids(tmp_path / "run")], 0)
    assert not (tmp_path / "run" / "served").exists() and no_records()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rollout"]["url"].endswith(":8000/v1")
    assert "rollout.serve_command" in (tmp_path / "run" / "changes.jsonl").read_text()


def test_a_program_that_is_not_installed_is_named_with_what_to_do(tiny, tmp_path):
    config = distill_config(*SERVE, "rollout.serve_command=[no-such-vllm]", f"out={tmp_path}")
    with pytest.raises(ConfigError, match=r"no program no-such-vllm.*rollout.serve_command="):
        engine.engine_of(config, tiny)


def test_the_other_processes_of_a_run_use_the_first_ones_server(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.process_group, "rank", lambda: 1)
    monkeypatch.setattr(engine.process_group, "gather", lambda value: [(4321, None), value])
    made = engine.engine_of(distill_config(*serving("plain"), f"out={tmp_path}"), tiny)
    assert isinstance(made, engine.WithServer) and made._engine._config.url == "http://127.0.0.1:4321/v1"  # type: ignore[attr-defined]
    assert not (tmp_path / "vllm.log").exists()
    made.close()
