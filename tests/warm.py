"""Real processes that are forked after the imports of vigos, which take ten seconds each time.

process = start(vigos, ["distill", "out=here"])   # has a pid, can be killed, ends with an exit code
done = run(vigos, ["eval", "out=there"])          # waits; with `returncode`, `stdout` and `stderr`

The first call starts a server that imports what a command needs; each process is a fork of it. A test of the
start itself, or of what `python -m vigos_cli` prints before the imports, starts a process of its own.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from multiprocessing import connection
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"
# `multiprocessing` looks at all processes whenever it starts one, and two threads must not do that at once:
# the exit code can be read once only.
ONE_THREAD = threading.RLock()


def vigos(arguments: Sequence[str]) -> None:
    """Code of a process: the command line `vigos <arguments>`, which draws no figures."""
    from vigos_cli.__main__ import main

    sys.argv = ["vigos", *arguments]
    main()


def vigos_with_figures(arguments: Sequence[str]) -> None:
    """Code of a process: the command line `vigos <arguments>`."""
    import figures

    figures.draw()
    vigos(arguments)


@cache
def server() -> Any:
    """The context whose processes are forks; the server inherits the environment of its start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warm_imports"])
    changed = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    changed |= {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS), *sys.path])}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        from multiprocessing import forkserver

        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return context


def _in_process(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    folder: str,
    outputs: tuple[str, str],
    own_session: bool,
) -> None:
    """Code of each process: become what a new process would be, then call the function."""
    from vigos_cli.config import compose

    if own_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate(outputs, 1):
        written = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(written, number)
        os.close(written)
    compose.started = datetime.now()
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()  # a fork of the server would leave them out


class Process:
    """A running process, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, process: Any, outputs: tuple[str, str]) -> None:
        self.process, self.outputs = process, outputs
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """The exit code, or None while the process runs; -9 after SIGKILL."""
        with ONE_THREAD:
            return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, as soon as the process has ended."""
        connection.wait([self.process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("a process of the tests", timeout or 0.0, self.printed(1))
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def printed(self, number: int) -> str:
        """What the process has written to stdout (0) or stderr (1)."""
        return Path(self.outputs[number]).read_text(encoding="utf-8", errors="replace")


def start(
    function: Callable[..., Any],
    *arguments: Any,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    outputs: tuple[Path, Path] | None = None,
    own_session: bool = False,
) -> Process:
    """Call the function in a process of its own. It must be defined in a module that can be imported."""
    if outputs is None:
        folder = Path(tempfile.mkdtemp(prefix="vigos-test-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        outputs = folder / "stdout", folder / "stderr"
    for file in outputs:
        file.touch()  # a test may read it before the process writes
    named = str(outputs[0]), str(outputs[1])
    environment = {**(os.environ if env is None else env), "OMP_NUM_THREADS": "1"}
    with ONE_THREAD:
        made = server().Process(
            target=_in_process,
            args=(function, arguments, environment, str(cwd or Path.cwd()), named, own_session),
        )
        made.start()
    process = Process(made, named)
    atexit.register(process.kill)  # a failed test may leave it running, and Python would wait for it
    return process


def start_both(function: Callable[..., Any], *arguments: Any, **options: Any) -> list[Process]:
    """Start the two processes of one run, as a launcher would, but none is ended when the other one ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [start(function, *arguments, env={**shared, "RANK": rank}, **options) for rank in "01"]


def run(
    function: Callable[..., Any], *arguments: Any, timeout: float = 300, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Start a process and wait for its end, like `subprocess.run`."""
    process = start(function, *arguments, **options)
    try:
        code = process.wait(timeout)
    finally:
        process.kill()
    out, err = process.printed(0), process.printed(1)
    if check and code:
        raise subprocess.CalledProcessError(code, "a process of the tests", out, err)
    return subprocess.CompletedProcess("a process of the tests", code, out, err)
