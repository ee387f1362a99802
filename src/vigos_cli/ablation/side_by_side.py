"""Run jobs in several worker processes, which stay until all jobs are done.

    run_side_by_side(jobs, [{"OMP_NUM_THREADS": "1"}] * 2, run_cell_of, ended)

    this process                          a worker
    start                         ->      new interpreter with its environment
                                  <-      None: ready
    payload of a job              ->      run(payload)
                                  <-      None: done; `ended(job, seconds, None)` is called here
    no job left: None             ->      ends

A worker that dies takes only its job with it: `ended` is called with the reason, and a new worker takes its
place. When this process ends, however that happens, its workers end too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work: `payload` is pickled and sent to the worker."""

    key: str
    payload: Any


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    environment: Mapping[str, str]
    job: Job | None = None  # None: it is starting or ending
    began: float = 0.0  # when it got the job


def run_side_by_side(
    jobs: Sequence[Job],
    environments: Sequence[Mapping[str, str]],
    run: Callable[[Any], None],
    ended: Callable[[Job, float, str | None], None],
) -> None:
    """Run all jobs in their order, in one worker for each environment, but not in more than there are jobs.

    `run` must be a function of a module, because the worker imports it. After Ctrl-C or SIGTERM every worker
    is told to end (SIGTERM) and is waited for; a second Ctrl-C kills them.
    """
    waiting, workers = deque(jobs), dict[Connection, _Worker]()
    try:
        for environment in environments[: len(jobs)]:
            _start(workers, environment, run)
        while workers:
            for connection in cast(list[Connection], wait(list(workers))):
                worker = workers[connection]
                seconds = time.monotonic() - worker.began
                if _has_answered(connection):
                    if worker.job:
                        ended(worker.job, seconds, None)
                    worker.job, worker.began = waiting.popleft() if waiting else None, time.monotonic()
                    _send(connection, worker.job)
                    continue
                connection.close()
                del workers[connection]
                worker.process.join()
                if worker.job:
                    ended(worker.job, seconds, _how_it_ended(worker.process))
                elif waiting:
                    raise RuntimeError(
                        f"a worker process ended at its start: {_how_it_ended(worker.process)}"
                    )
                if waiting:
                    _start(workers, worker.environment, run)
    finally:
        _end([worker.process for worker in workers.values()])


def _start(
    workers: dict[Connection, _Worker], environment: Mapping[str, str], run: Callable[[Any], None]
) -> None:
    """Start a worker as a new interpreter; a fork would copy the state of torch and its threads."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=work, args=(its, dict(environment), run), name="vigos worker")
    process.start()
    its.close()  # so that the connection ends with the worker
    workers[ours] = _Worker(process, environment)


def _has_answered(connection: Connection) -> bool:
    """Whether the worker has sent its answer; otherwise it has ended."""
    try:
        connection.recv()
    except (EOFError, OSError):
        return False
    return True


def _send(connection: Connection, job: Job | None) -> None:
    with suppress(OSError):  # it has just ended, which the next `wait` reports
        connection.send(job)


def _how_it_ended(process: SpawnProcess) -> str:
    code = process.exitcode or 0
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End workers: each saves what it has; a second Ctrl-C does not wait for this."""
    if processes:
        print(
            f"vigos: waiting until {len(processes)} processes have ended; Ctrl-C again kills them",
            file=sys.stderr,
            flush=True,
        )
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.kill()
            process.join()


def work(connection: Connection, environment: Mapping[str, str], run: Callable[[Any], None]) -> None:
    """What a worker does: run the jobs that arrive until None arrives."""
    _end_with_parent()
    os.environ.update(environment)  # before torch is imported, which reads it once
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C on the terminal reaches the main process alone, which then ends the workers
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        connection.send(None)
        while (job := connection.recv()) is not None:
            run(job.payload)
            connection.send(None)
    except KeyboardInterrupt:
        pass


def _end_with_parent() -> None:
    """End this process when its parent has ended, also if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)  # whatever the main thread does

    threading.Thread(target=watch, name="parent", daemon=True).start()
