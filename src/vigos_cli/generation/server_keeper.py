"""The process between a run and the server that it starts: it ends the server when the run ends.

    run  --stdin-->  keeper  -->  server and its own processes (in a group of their own)

The keeper reads one line from its stdin (the command, and what the record says), starts the server, and
writes the record. It ends the server as soon as its stdin is closed or its parent is gone, which also happens
if the run is killed. If the server ends by itself, it writes the exit code to its stdout. If the keeper is
killed too, Linux sends the server SIGTERM. If even that fails, the next start reads the record and ends what
is left (`server_records`).

Every process of the server has the mark of this start in its environment, because processes inherit it. So
no other process is ever ended, even if it has the number of one that is gone.

It imports only the standard library: it starts quickly and needs little memory.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "VIGOS_SERVER"  # environment variable
GRACE = 20.0  # seconds from SIGTERM to SIGKILL
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since the machine was; None if it does not run.

    A number of a process is used again, but never with the same time. Always None if this is not Linux.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def identity(pid: int) -> dict[str, int | None]:
    """What tells a process from every other one on this machine."""
    return {"pid": pid, "start": start_time(pid)}


def marked(mark: str) -> list[int]:
    """The processes with this mark in their environment, except this one; empty if this is not Linux."""
    found, entry = [], f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or it belongs to somebody else
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def end_marked(mark: str, *, grace: float = GRACE, server: subprocess.Popen[bytes] | None = None) -> None:
    """End all processes with this mark: SIGTERM, and SIGKILL to those that are left after `grace` seconds.

    If the caller has started the `server`, SIGTERM goes to its process group while it runs.
    """

    def runs() -> bool:
        return server is not None and server.poll() is None

    for number in (signal.SIGTERM, signal.SIGKILL):
        grouped = runs()
        # Elsewhere than on Linux only the group is known, also if the server itself has ended.
        if server and (grouped or sys.platform != "linux"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(server.pid, number)
        if not grouped or number == signal.SIGKILL:
            for pid in marked(mark):
                with suppress(OSError):
                    os.kill(pid, number)
        until = time.monotonic() + grace
        while (runs() or marked(mark)) and time.monotonic() < until:
            time.sleep(0.05)


def keep(task: dict[str, Any]) -> None:
    """Start the server and end it with the run."""
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    for ignored in (signal.SIGINT, signal.SIGHUP):  # they reach the run, which decides
        signal.signal(ignored, signal.SIG_IGN)
    record = Path(task["record"])
    libc = ctypes.CDLL(None)  # loaded before the fork
    with open(task["log"], "ab") as log:
        server = subprocess.Popen(
            task["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            # Linux sends SIGTERM to the server when the keeper's main thread, its only one, ends.
            preexec_fn=lambda: libc.prctl(DEATH_SIGNAL, signal.SIGTERM) if sys.platform == "linux" else None,
        )
    about = {"server": identity(server.pid), "keeper": identity(os.getpid())}
    with suppress(OSError):  # without a record, only the next start knows less
        draft = record.with_suffix(".draft")
        draft.write_text(json.dumps({**task, **about}))
        draft.replace(record)
    while server.poll() is None and not ending and os.getppid() == task["run"]["pid"]:
        readable, _, _ = select.select([0], [], [], 0.2)
        if readable and not os.read(0, 1024):
            break
    code = server.poll()
    if code is not None:
        with suppress(OSError):  # the run may be gone too
            print(code if code >= 0 else 128 - code, flush=True)
    end_marked(os.environ[MARK], grace=task["grace"], server=server)
    record.unlink(missing_ok=True)


if __name__ == "__main__":
    keep(json.loads(sys.stdin.readline()))
