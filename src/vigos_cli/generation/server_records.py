"""Find the servers that a run has started and that outlived it, and end them.

A record is a small file in a folder of the user's, written by the keeper of a server and removed when the
server has ended. It names run, keeper and server (process number and start time), port, command and folder.

    the run is alive                             its server is left alone
    the run is gone, the keeper ends the server  wait for it
    both are gone, marked processes are left     an orphan: named in one line, and ended
    both are gone, nothing is left               the record is removed
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vigos_cli.generation.server_keeper import GRACE, end_marked, marked, start_time


def records_folder() -> Path:
    """The folder of the records of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vigos" / "servers"


def end_orphans(grace: float = GRACE) -> None:
    """End the servers of this user on this machine whose run was killed; a line on stderr names each."""
    if sys.platform != "linux":  # elsewhere no process can be told apart with certainty
        return
    for file in sorted(records_folder().glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):  # damaged, or another program's
            record = json.loads(file.read_text())
            if record["host"] == socket.gethostname() and not _runs(record["run"]):
                _end(record, file, grace)


def _runs(process: dict[str, Any]) -> bool:
    """Whether a process of a record still runs."""
    return process["start"] is not None and start_time(process["pid"]) == process["start"]


def _end(record: dict[str, Any], file: Path, grace: float) -> None:
    """End the server of a record, or wait until its keeper has ended it."""
    if _runs(record["keeper"]):
        _say(record, "its run was killed, and it is being ended")
        until = time.monotonic() + 2 * grace + 5
        while _runs(record["keeper"]) and time.monotonic() < until:
            time.sleep(0.1)
    if found := marked(record["mark"]):
        _say(record, f"its run was killed, and it was left over: ending process {', '.join(map(str, found))}")
        end_marked(record["mark"], grace=grace)
    file.unlink(missing_ok=True)


def _say(record: dict[str, Any], what: str) -> None:
    print(f"vigos: the vLLM server of {record['out']} at port {record['port']}: {what}", file=sys.stderr)
