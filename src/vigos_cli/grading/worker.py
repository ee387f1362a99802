r"""Check symbolic equality in worker processes that can be killed.

math-verify does not return, or needs gigabytes, on some inputs.

>>> Pool().equal("x^2-1", "(x+1)(x-1)")
Answer(equal=True, reason='the expressions are equal')

A pair gets one second of processor time, an expression has a largest length, and a process has 512 MB. A
process that takes more ends, and a new one is started for the next pair. A pool is safe to use from any
thread. It starts no process before the first pair.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).with_name("mathprocess.py")
SECONDS = 0.9  # processor time of a pair; a busy machine does not change a verdict
LONGEST = 300  # number of characters of an expression
DEEPEST = 25  # number of brackets inside one another
PROCESSES = 2
PAIRS = 2_000  # of a process, which math-verify makes larger with each pair; then a new one is started
NO_VERDICT: dict[int | None, str] = {  # by the process's exit code, which is minus the signal that ended it
    -signal.SIGPROF: "comparing them took longer than the processor time allowed",
    -signal.SIGALRM: "math-verify's process did not answer in time",
}
ENDED = "math-verify's process ended, out of memory or unable to start"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a pair is equal, and why; `equal` is None if that could not be decided.

    `left` is what remains of the processor time for the pair, in seconds.
    """

    equal: bool | None
    reason: str
    left: float = 0.0


class Worker:
    """One process. A Pool lends it to one thread at a time."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.asked = 0  # pairs that this process was given

    def equal(self, gold: str, answer: str, seconds: float) -> Answer:
        """Ask the process, and start it if necessary. It ends itself if it takes too long."""
        question = json.dumps({"pair": [gold, answer], "seconds": seconds}).encode() + b"\n"
        if self.process and (self.asked >= PAIRS or self.process.poll() is not None):
            self.close()
        self.asked += 1
        try:
            process = self.process = self.process or _start()
            assert process.stdin and process.stdout
            process.stdin.write(question)
            line = process.stdout.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            if self.process:
                self.process.wait()
            return Answer(None, NO_VERDICT.get(self.close(), ENDED))
        told = json.loads(line)
        if told["equal"] is None:
            return Answer(None, "the expressions could not be compared with certainty")
        reason = f"the expressions are {'equal' if told['equal'] else 'different'}"
        return Answer(told["equal"], reason, told["left"])

    def close(self) -> int | None:
        """End the process and wait for it. Returns its exit code; None without a process."""
        process, self.process, self.asked = self.process, None, 0
        if process is None:
            return None
        process.kill()
        with process:  # closes the pipes and waits
            return process.wait()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


class Pool:
    """Some workers, each lent for one pair at a time. They are closed at exit, or by `close`."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self.lock = threading.Lock()
        self._fill(processes)
        atexit.register(self.close)

    def _fill(self, processes: int) -> None:
        self.owner = os.getpid()
        self.workers = [Worker() for _ in range(processes)]
        self.free: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self.workers:
            self.free.put(worker)

    def equal(self, gold: str, answer: str, seconds: float = SECONDS) -> Answer:
        """Whether two expressions or equations are equal. Waits while all workers are lent. Never raises.

        `seconds` is the processor time for the pair.
        """
        if max(len(gold), len(answer)) > LONGEST:
            return Answer(None, f"longer than {LONGEST} characters")
        if max(_depth(gold), _depth(answer)) > DEEPEST:
            return Answer(None, f"nested deeper than {DEEPEST}")
        with self.lock:
            if os.getpid() != self.owner:  # after a fork the processes belong to the parent
                self._fill(len(self.workers))
        worker = self.free.get()
        try:
            return worker.equal(gold, answer, seconds)
        finally:
            self.free.put(worker)

    def close(self) -> None:
        """End this process's workers. The pool can be used again."""
        if os.getpid() == self.owner:
            for worker in self.workers:
                worker.close()


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
