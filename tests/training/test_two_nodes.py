"""Two agents of torchrun on one machine, which stand for two nodes: one is killed, or one of its processes.

`python tests/tools/two_nodes.py` does the same with whole runs of `vigos distill`.
"""

from __future__ import annotations

import json
import time
from datetime import timedelta

import psutil
import pytest
import torch
from conftest import distill_config
from tools.two_nodes import Nodes, alive
from torch import distributed

from vigos_cli.cli.launch import Flags, launch
from vigos_cli.config import torchrun
from vigos_cli.training import distill
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import ConfigError

PROCESS = """
import json, os, signal, sys
from pathlib import Path
import torch
from vigos_cli.config import compose, torchrun
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import ConfigError

out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
first_attempt = not (out / "killed").exists()
with (out / "starts").open("a") as file:
    file.write("x")
torchrun.end_with_agent()
torchrun.agree_on_start_time()
process_group.start(torch.device("cpu"))
said = {"starts": process_group.gather(str(compose.started)), "refused": ""}
if first_attempt and rank == 1:
    (out / "killed").touch()
    os.kill(os.getpid(), signal.SIGKILL)
process_group.wait()
process_group.check_shared(out)
try:
    process_group.check_shared(out / f"machine{rank}")
except ConfigError as error:
    said["refused"] = str(error)
(out / f"{rank}.json").write_text(json.dumps(said))
signal.pause()
"""


@pytest.mark.slow
def test_a_restart_joins_again_and_no_process_outlives_its_agent(tmp_path):
    """The agents count restarts of their own: the one whose process was killed says 1, the other one 0."""
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    for machine in "01":
        (tmp_path / f"machine{machine}").mkdir()
    nodes = Nodes([str(script), str(tmp_path)], restarts=1, logs=tmp_path / "logs")
    try:
        files = [tmp_path / "0.json", tmp_path / "1.json"]
        nodes.wait_for(lambda: all(file.exists() for file in files))
        said = [json.loads(file.read_text()) for file in files]
        assert len({*said[0]["starts"], *said[1]["starts"]}) == 1, "all have the start time of rank 0"
        for one in said:
            assert "process 1 on" in one["refused"] and "that all machines share" in one["refused"]
        assert not list(tmp_path.glob("**/.seen-*"))
        assert (tmp_path / "starts").read_text() == 4 * "x", "the second attempt is the last one"

        of_node = [psutil.Process(agent.pid).children() for agent in nodes.agents]
        nodes.agents[1].kill()
        deadline = time.monotonic() + 10
        while any(alive(process) for process in of_node[1]):
            assert time.monotonic() < deadline, "a process outlives its agent"
            time.sleep(0.1)
    finally:
        nodes.kill()


class Store:
    """The calls of a store of torch.distributed that the processes of an attempt make."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.content[key] = value

    def get(self, key: str) -> bytes:
        return self.content[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.content for key in keys)


def test_a_process_that_does_not_start_is_counted(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(torchrun, "PATIENCE", 0.05)
    with pytest.raises(torchrun.UserError, match="2 of 3 processes did not start"):
        torchrun._name_of_attempt(Store())


PEER = "[/build/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:40034"


@pytest.mark.parametrize("processes", [1, 2])
def test_the_loss_of_another_process_is_one_line(processes, monkeypatch, capsys, tmp_path):
    def run(config: object) -> None:
        raise RuntimeError(PEER)

    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(torchrun, "agree_on_start_time", lambda: None)
    monkeypatch.setattr("vigos_cli.cli.commands.distill.run", run)
    with pytest.raises(SystemExit, match="1"):
        launch("distill", [f"out={tmp_path / 'run'}"], Flags())
    said = capsys.readouterr().err
    if processes == 1:  # then there is no other process, and the error is ours
        assert "Traceback" in said and PEER in said
    else:
        assert said.startswith("vigos: process 1 of 2 has lost another process of this run")
        assert "resume=auto" in said and said.count("\n") == 1


def test_a_process_that_ends_before_the_others_join_is_not_waited_for_long(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(process_group, "TO_START", timedelta(milliseconds=50))
    store = distributed.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    monkeypatch.setattr(process_group._State, "store", store)
    with pytest.raises(RuntimeError) as caught:
        process_group.start(torch.device("cpu"))
    assert "lost another process" in (torchrun.lost_process(caught.value) or "")
    assert not distributed.is_initialized()


def test_processes_that_read_other_numbers_of_rows_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(process_group, "gather", lambda value: [value, value - 1])
    with pytest.raises(ConfigError, match="all machines need the same data"):
        distill._load_data(tmp_path, distill_config("limit=4"))


@pytest.mark.parametrize("command", ["rollout", "merge"])
def test_a_command_that_does_not_share_its_work_is_refused_under_torchrun(command, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert launch(command, [], Flags()) == 2
    assert (
        capsys.readouterr().err == f"vigos: vigos {command} runs in one process: start it without torchrun\n"
    )


def test_a_single_process_needs_no_shared_folder(tmp_path):
    process_group.check_shared(tmp_path / "missing")
    process_group.start(torch.device("cpu"))
    assert process_group.size() == 1
