"""Trials with a tracker whose server is ill, or whose package is missing."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import warm

from campaign import small_runs
from campaign.trial import Outcome, Space, Trial

GROUP = "trackers that hang or answer nonsense"
PAGE = b"<html><body>Please log in.</body></html>"
HTML = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%s" % (len(PAGE), PAGE)
ANSWERS: dict[str, bytes | None] = {
    "never answers": b"",
    "answers HTML": HTML,
    "closes the connection": None,
    "answers 500": b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
}


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """A server that answers every connection with these bytes, or with none and waits; None: it closes it."""
    over, held = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is None:
                    connection.close()
                elif answer:
                    try:
                        connection.recv(1 << 16)
                        connection.sendall(answer)
                        connection.close()
                    except OSError:
                        pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        over.set()
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


def without_package(arguments: Sequence[str], name: str) -> None:
    """Code of a process: `vigos` on a machine where a package is not installed."""
    sys.modules[name] = None  # type: ignore[assignment]
    warm.vigos(arguments)


def ill(what: str, answer: bytes | None) -> Trial:
    """A run that is tracked online, on a server that is ill: it goes on, and one line says so."""

    def run(space: Space) -> Outcome:
        expected, out = small_runs.whole(space, "distill"), space.folder / "run"
        with listening(answer) as url:
            environment = {
                **os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "8",
                "HOME": str(space.folder), "NO_PROXY": "127.0.0.1",
            }  # fmt: skip
            arguments = small_runs.command("distill", out, "tracking=wandb", "tracking.mode=online")
            done = warm.run(warm.vigos, arguments, env=environment, timeout=small_runs.LIMIT)
        (space.folder / "stderr").write_text(done.stderr)
        said = small_runs.lines_of(done)
        wrong = f"exit code {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""
        if not wrong and (len(said) != 1 or "wandb" not in said[0]):
            wrong = f"{len(said)} lines: {said}"
        wrong = wrong or small_runs.difference(out, expected, "adapter/README.md")  # it has the configuration
        came = wrong or f"{said[0]}. The same bytes"
        return Outcome(
            not wrong, f"distill: wandb's server {what}", "tracking.mode=online", came.replace(url, "URL")
        )

    return Trial(f"tracker wandb {what}", GROUP, run)


def missing(name: str, module: str) -> Trial:
    """A tracker whose package is not installed."""

    def run(space: Space) -> Outcome:
        arguments = small_runs.command("distill", space.folder / "run", f"tracking={name}")
        done = warm.run(without_package, arguments, module, timeout=small_runs.LIMIT)
        wrong, said = small_runs.complaint(done), small_runs.lines_of(done)
        came = wrong or said[0]
        return Outcome(not wrong, f"distill: {name}", "not installed", small_runs.short(came, space.folder))

    return Trial(f"tracker {name} missing", GROUP, run)


def trials(seed: int) -> list[Trial]:
    """Every illness of wandb's server, and packages that are missing."""
    return [
        *(ill(*one) for one in ANSWERS.items()),
        missing("wandb", "wandb"),
        missing("tensorboard", "tensorboard"),
    ]
