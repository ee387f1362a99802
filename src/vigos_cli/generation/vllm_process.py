"""Start a vLLM server for one run, wait until it answers, and end it (`rollout.serve=true`).

    process = VllmProcess(port, out)
    process.start(command, environment)          # the server's messages go to vllm.log in the run's folder
    process.wait_until_ready(1800)               # shows the seconds and the newest line of that file
    ...
    process.ended()                              # None, or why the run cannot go on
    process.close()

A keeper in between ends the server however the run ends (`server_keeper`).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vigos_cli.generation import server_keeper
from vigos_cli.generation.server_keeper import GRACE, MARK, identity
from vigos_cli.generation.server_records import records_folder
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.progress import EVERY, duration

LOG = "vllm.log"
TAIL = 15  # lines of the log that are shown after a failure
POLL = 0.25  # seconds


class VllmProcess:
    """One server, from its start to its end."""

    def __init__(self, port: int, out: Path):
        self.port, self.log = port, (out / LOG).resolve()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._from = 0  # where the messages of this start begin in the log
        self._code = ""  # exit code of the server, once it has ended by itself
        self._ready = False

    @property
    def url(self) -> str:
        """The address for `rollout.url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the server; `environment` must have a new mark (`server_keeper.MARK`)."""
        _reach_without_proxy()
        records, mark = records_folder(), environment[MARK]
        with suppress(OSError):
            records.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        task = {
            "host": socket.gethostname(),
            "run": identity(os.getpid()),
            "port": self.port,
            "out": str(self.log.parent),
            "command": list(command),
            "mark": mark,
            "log": str(self.log),
            "grace": GRACE,
            "record": str(records / f"{mark}.json"),
        }
        with self.log.open("ab") as log:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            log.write(f"\n{now} vigos starts: {shlex.join(command)}\n".encode())
            self._from = log.tell()
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", server_keeper.__file__],  # starts in a few milliseconds
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                start_new_session=True,  # so Ctrl-C reaches only the run
            )
        assert self._keeper.stdin and self._keeper.stdout
        os.set_blocking(self._keeper.stdout.fileno(), False)
        with suppress(BrokenPipeError):
            self._keeper.stdin.write(json.dumps(task).encode() + b"\n")
            self._keeper.stdin.flush()

    def wait_until_ready(self, limit: float) -> None:
        """Wait for the server's first answer; raise a UserError if it ends, or needs more seconds."""
        with _Display() as display:
            while not self._answers():
                if why := self.ended():
                    raise UserError(why)
                if display.seconds > limit:
                    raise UserError(
                        f"rollout.serve: the vLLM server was not ready after {duration(limit)} "
                        f"(rollout.patience); the end of {self.log}:\n{self._tail()}"
                    )
                display.show(self._newest)
                time.sleep(POLL)
        self._ready = True
        print(f"vllm: ready after {display.seconds:.0f} s; log: {self.log}", file=sys.stderr)

    def ended(self) -> str | None:
        """Why the server is gone, with the end of its log; None while it runs."""
        if self._keeper is None:
            return None
        assert self._keeper.stdout
        code = (self._keeper.stdout.read() or b"").decode().strip()
        self._code = self._code or code or ("unknown" if self._keeper.poll() is not None else "")
        if not self._code:
            return None
        what = "before it was ready"
        if self._ready:
            what = "during the run: resume=auto starts a new one and continues"
        return (
            f"rollout.serve: the vLLM server ended with exit code {self._code} {what}; "
            f"the end of {self.log}:\n{self._tail()}"
        )

    def close(self) -> None:
        """End the server and wait until it is gone."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        keeper.terminate()  # a process that this one forked may keep the pipe open
        try:
            keeper.wait(2 * GRACE + 5)
        except subprocess.TimeoutExpired:  # the next start ends what is left
            keeper.kill()
        for pipe in (keeper.stdin, keeper.stdout):
            with suppress(OSError):
                assert pipe
                pipe.close()

    def _answers(self) -> bool:
        """Whether the server says that it is ready."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)  # uses no proxy
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200 and self.ended() is None
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _messages(self, size: int = 20_000) -> list[str]:
        """The last lines of the log since this start, without colours and empty lines."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._from, log.seek(0, os.SEEK_END) - size))
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", log.read().decode(errors="replace"))
            lines = ("".join(c for c in line if c.isprintable()) for line in re.split(r"[\r\n]+", text))
            return [line.rstrip() for line in lines if line.strip()]
        return []

    def _tail(self) -> str:
        return "\n".join(line[:300] for line in self._messages()[-TAIL:]) or "(it is empty)"

    def _newest(self) -> str:
        return (self._messages(4000) or [""])[-1][:100]


def free_port() -> int:
    """A port of this machine that no program uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _reach_without_proxy() -> None:
    """Take this machine out of the reach of a proxy that the environment names."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""  # as Python's own order is
    if "127.0.0.1" not in hosts.split(","):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, (hosts, "127.0.0.1")))


class _Display:
    """The seconds and the newest line of the log: one line on a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        self.began = self._shown = time.monotonic()
        console = Console(stderr=True)
        self._status = console.status("") if console.is_terminal else None

    def __enter__(self) -> _Display:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status:
            self._status.stop()

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        return time.monotonic() - self.began

    def show(self, newest: Callable[[], str]) -> None:
        """Show the line if it is time."""
        now = time.monotonic()
        if now - self._shown < (1 if self._status else EVERY):
            return
        self._shown = now
        line = f"vllm: starting, {self.seconds:.0f} s so far  {newest()}"
        if self._status:
            self._status.update(Text(line))
        else:
            print(line, file=sys.stderr, flush=True)
