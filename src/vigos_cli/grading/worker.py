r"""Check symbolic equality in worker processes that can be killed.

math-verify hangs, or takes gigabytes, on some inputs.

>>> Pool().equal("x^2-1", "(x+1)(x-1)")
Answer(equal=True, reason='the expressions are equal')

A pair has a second of processor time, an expression a largest length, and a process 512 MB; one that takes
more ends, and a new one is started for the next pair. Safe to use from any thread; nothing is started before
the first pair.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).with_name("mathprocess.py")
SECONDS = 0.9  # of processor time a pair, so that no verdict depends on how busy the machine is
PATIENCE = 30  # seconds by the clock after which a process that got no processor time is given up
START_SECONDS = 120  # importing sympy on a machine that is busy
LONGEST = 300  # characters of an expression
DEEPEST = 25  # brackets within brackets
PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a pair is equal; None where that could not be decided, and `reason` says why."""

    equal: bool | None
    reason: str


class Worker:
    """One process. Not safe to share between threads: a Pool lends it to one at a time."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = False  # its output did: it is about to be gone, and how is worth knowing

    def equal(self, gold: str, answer: str, seconds: float) -> Answer:
        """Ask; the process is killed, by itself or from here, if it does not answer in time."""
        try:
            process = self._running()
            assert process.stdin
            process.stdin.write(json.dumps({"pair": [gold, answer], "seconds": seconds}).encode() + b"\n")
            process.stdin.flush()
            line = self._line(PATIENCE)
        except TimeoutError:
            self.close()
            return Answer(None, "math-verify's process did not answer")
        except (OSError, EOFError):
            if self.close() == -signal.SIGPROF:
                return Answer(None, f"comparing them took longer than {seconds:.1g} s")
            return Answer(None, "math-verify's process ended, out of memory or unable to start")
        result = json.loads(line)["equal"]
        if result is None:
            return Answer(None, "the expressions could not be compared with certainty")
        return Answer(result, f"the expressions are {'equal' if result else 'different'}")

    def close(self) -> int | None:
        """End the process and wait for it, so that none is left behind; how it ended, None without one."""
        process, self.process = self.process, None
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0 if self.ended else 0.0)
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        return code

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.ended = False
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            self._line(START_SECONDS)
        return self.process

    def _line(self, seconds: float) -> bytes:
        """One line of the process's output. Raises TimeoutError, or EOFError when it has ended."""
        assert self.process and self.process.stdout
        end, found = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                chunk = os.read(self.process.stdout.fileno(), 65536)
                if not chunk:
                    self.ended = True
                    raise EOFError
                found += chunk
        return found


class Pool:
    """Some workers, lent one pair at a time. Closed at exit, or by `close`; usable again afterwards."""

    def __init__(self, processes: int = PROCESSES, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.workers = [Worker() for _ in range(processes)]
        self.free: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self.workers:
            self.free.put(worker)
        self.owner = os.getpid()
        self.lock = threading.Lock()
        atexit.register(self.close)

    def equal(self, gold: str, answer: str, seconds: float | None = None) -> Answer:
        """Whether two expressions or equations are the same; waits while all workers are lent. Never raises.

        `seconds` of processor time, at most those of the pool, are given to the pair.
        """
        if max(len(gold), len(answer)) > LONGEST:
            return Answer(None, f"longer than {LONGEST} characters")
        if max(_depth(gold), _depth(answer)) > DEEPEST:
            return Answer(None, f"nested deeper than {DEEPEST}")
        self._own()
        worker = self.free.get()
        try:
            return worker.equal(gold, answer, min(self.seconds, seconds or self.seconds))
        finally:
            self.free.put(worker)

    def close(self) -> None:
        """End all processes that are this one's to end."""
        if os.getpid() == self.owner:
            for worker in self.workers:
                worker.close()

    def _own(self) -> None:
        """After a fork the workers are the parent's: start afresh."""
        with self.lock:
            if os.getpid() != self.owner:
                self.__init__(len(self.workers), self.seconds)


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
