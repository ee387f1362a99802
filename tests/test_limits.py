"""A quick test that takes too much processor time fails, and processes that are forks end as others do."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace
from typing import Any

import limits
import pytest
import warm


def run_timed(*, slow: bool = False) -> Any:
    """The item after a test of 20 ms."""
    item: Any = SimpleNamespace(user_properties=[], get_closest_marker=lambda name: slow or None)
    item.nodeid = "tests/test_a.py::b"
    part = limits.timed(item)
    next(part)
    began = time.process_time()
    while time.process_time() < began + 0.02:
        pass
    with pytest.raises(StopIteration):
        part.send(None)
    return item


def test_a_quick_test_that_takes_too_long_fails_unless_the_machine_is_busy():
    shown: list[str] = []
    with pytest.MonkeyPatch.context() as patch:  # undone before this test itself is judged
        patch.setattr(limits, "busy", lambda: False)
        assert run_timed().user_properties == []
        patch.setattr(limits, "SECONDS", 0.01)
        assert run_timed(slow=True).user_properties == []
        with pytest.raises(pytest.fail.Exception, match="mark it `slow`"):
            run_timed()
        patch.setattr(limits, "busy", lambda: True)
        ((name, said),) = run_timed().user_properties
    report = SimpleNamespace(nodeid="a::b", user_properties=[(name, said)])
    limits.summary(SimpleNamespace(stats={"passed": [report]}, write_line=shown.append))
    assert len(shown) == 1 and shown[0].startswith("a::b: ") and "busy" in shown[0]


def test_the_longest_files_are_started_first(request):
    for name in limits.LONGEST:
        assert (request.config.rootpath / "tests" / name).exists(), name
    names = [
        "tests/a.py::one",
        f"tests/{limits.LONGEST[1]}::x",
        f"tests/{limits.LONGEST[0]}::y",
        "tests/a.py::two",
    ]
    items: Any = [SimpleNamespace(nodeid=name) for name in names]
    limits.longest_first(items)
    assert [item.nodeid for item in items] == [names[2], names[1], names[0], names[3]]


def speak_and_end(code: int) -> None:
    """Code of a process."""
    print(os.environ["SAID"], os.environ.get("OMP_NUM_THREADS"), os.getcwd(), os.getpid() == os.getsid(0))
    print("wrong", file=sys.stderr)
    sys.exit(code)


def wait_for_a_signal() -> None:
    """Code of a process."""
    print("ready", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)


@pytest.mark.slow
def test_a_fork_has_its_environment_its_output_and_its_exit_code(tmp_path):
    environment = {**os.environ, "SAID": "here"}
    done = warm.run(speak_and_end, 3, env=environment, cwd=tmp_path, own_session=True)
    assert (done.returncode, done.stdout) == (3, f"here 1 {tmp_path} True\n")
    assert done.stderr.endswith("wrong\n")
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = warm.start(wait_for_a_signal)
        while not process.printed(0):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == code
