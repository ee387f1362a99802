"""Jobs in worker processes: they run at the same time, and no process outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import vigos_cli
from vigos_cli.ablation.side_by_side import Job, run_side_by_side

SOURCE = str(Path(vigos_cli.__file__).parents[1])
TWO = [{"PART": "first"}, {"PART": "second"}]


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def meet(payload: tuple[Path, str, str]) -> None:
    """Leave a mark with this worker's environment, and end when the other job's mark is there."""
    folder, own, other = payload
    (folder / own).write_text(f"{os.environ['PART']} {os.getpid()}")
    wait_for((folder / other).exists)


def leave(payload: tuple[Path, str]) -> None:
    """Leave a mark, or die without one."""
    folder, name = payload
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "broken":
        raise ValueError("no such luck")
    (folder / name).touch()


def linger(folder: Path) -> None:
    """Name this process, then go on until it is interrupted, which leaves a mark too."""
    (folder / f"{os.getpid()}.pid").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"{os.getpid()}.saved").touch()
        raise


class DiesWhenRead:
    """A function that a worker cannot read."""

    def __reduce__(self):
        return os._exit, (3,)

    def __call__(self, payload) -> None: ...


def test_two_jobs_run_at_the_same_time_each_with_its_environment(tmp_path):
    jobs = [Job("a", (tmp_path, "a", "b")), Job("b", (tmp_path, "b", "a"))]
    ended = []
    run_side_by_side(jobs, TWO, meet, lambda job, seconds, died: ended.append((job.key, died)))
    assert sorted(ended) == [("a", None), ("b", None)]
    (one, first), (two, second) = ((tmp_path / name).read_text().split() for name in ("a", "b"))
    assert {one, two} == {"first", "second"} and len({first, second, str(os.getpid())}) == 3


def test_a_worker_that_dies_takes_only_its_job_with_it(tmp_path, capfd):
    jobs = [Job(name, (tmp_path, name)) for name in ("killed", "broken", "one", "two")]
    ended = {}
    run_side_by_side(jobs, TWO[:1], leave, lambda job, seconds, died: ended.update({job.key: died}))
    assert ended == {"killed": "signal SIGKILL", "broken": "exit code 1", "one": None, "two": None}
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert "ValueError: no such luck" in capfd.readouterr().err


def test_a_worker_that_cannot_start_is_an_error_and_not_tried_for_ever(tmp_path):
    with pytest.raises(RuntimeError, match="ended at its start: exit code 3"):
        run_side_by_side([Job("a", tmp_path)], TWO, DiesWhenRead(), lambda *_: None)


PROGRAM = """
import signal, sys
from pathlib import Path
from test_side_by_side import linger, TWO
from vigos_cli.ablation.side_by_side import Job, run_side_by_side
signal.signal(signal.SIGTERM, signal.default_int_handler)  # as vigos_cli.cli.launch does
try:
    run_side_by_side([Job(name, Path(sys.argv[1])) for name in "abc"], TWO, linger, lambda *_: None)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_main_process(number, tmp_path):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, str(Path(__file__).parent), *sys.path])}
    main = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], env=environ, start_new_session=True
    )
    wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    os.kill(main.pid, number)
    assert main.wait(60) == (-number if number == signal.SIGKILL else 130)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    wait_for(lambda: not any(map(lives, pids)))
    saved = {path.stem for path in tmp_path.glob("*.saved")}
    assert saved == (set() if number == signal.SIGKILL else set(map(str, pids)))
    assert len(pids) == 2, "the third job was not started"


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to take notice."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
