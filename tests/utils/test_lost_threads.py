"""A thread that has no memory to begin ends the process with one line; else its starter waits for ever."""

import subprocess
import sys

import pytest

BEGIN = """
import atexit, threading
from vigos_cli.utils.lost_threads import watch_threads

class WithoutMemory(threading.Thread):
    def _bootstrap(self):
        raise MemoryError

class Broken(threading.Thread):
    def _bootstrap(self):
        self._started.set()
        raise ValueError("something else")

watch_threads()
"""


def run(code: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=timeout, check=False
    )


def test_a_thread_without_memory_ends_the_process():
    done = run("WithoutMemory().start(); print('went on')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vigos: out of memory: ") and done.stderr.count("\n") == 1


def test_without_the_hook_it_waits_for_ever():
    with pytest.raises(subprocess.TimeoutExpired):
        run("import sys; sys.unraisablehook = sys.__unraisablehook__; WithoutMemory().start()", timeout=3)


def test_no_memory_at_the_end_of_the_process_adds_no_lines():
    done = run("atexit.register(lambda: bytearray(1 << 62))")
    assert (done.returncode, done.stderr) == (0, "")


def test_other_errors_are_reported_as_before():
    wait = "import _thread, time\nwhile _thread._count(): time.sleep(0.01)"  # until the error is written
    done = run(f"Broken().start(); print('went on')\n{wait}")
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert "something else" in done.stderr
