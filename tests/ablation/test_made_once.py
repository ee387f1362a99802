"""One process makes a result and the others wait for it; a lock is released when its process ends."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import vigos_cli
from vigos_cli.ablation.made_once import find_made, made_once

SOURCE = str(Path(vigos_cli.__file__).parents[1])


def test_others_stop_waiting_as_soon_as_the_result_exists(tmp_path):
    lock, there, made = tmp_path / "lock", tmp_path / "there", []
    inside = threading.Event()

    def arrive(name: str) -> None:
        with made_once(lock, there.exists) as missing:
            if missing:
                made.append(name)
                inside.set()
                time.sleep(0.2)
                there.touch()
                time.sleep(5 if name == "first" else 0)  # the result exists, but the lock is still held

    first, second = (
        threading.Thread(target=arrive, args=(name,), daemon=True) for name in ("first", "second")
    )
    first.start()
    assert inside.wait(5)
    second.start()
    second.join(4)
    assert not second.is_alive() and made == ["first"]


HOLD = """
import sys, time
from pathlib import Path
from vigos_cli.ablation.made_once import made_once
with made_once(Path(sys.argv[1]), lambda: False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_released_when_its_process_is_killed(tmp_path):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, *sys.path])}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    looked = []

    def never() -> bool:
        looked.append(1)
        if len(looked) == 2:  # the second check: it has waited once by now
            holder.kill()
            holder.wait()
        return False

    with made_once(tmp_path / "lock", never):
        assert len(looked) >= 2


def test_the_result_is_made_if_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no locks available")

    monkeypatch.setattr("vigos_cli.ablation.made_once.FileLock.acquire", fail)
    with made_once(tmp_path / "lock", lambda: False) as missing:
        assert missing


def test_an_existing_result_is_used_without_the_lock(tmp_path):
    with made_once(tmp_path / "lock", lambda: False), made_once(tmp_path / "lock", lambda: True) as missing:
        assert not missing


def test_a_result_is_found_by_its_key(tmp_path):
    places = [tmp_path / name for name in ("c", "b", "a")]
    keys = {"a": None, "b": {"seed": 1}, "c": {"seed": 1}}
    assert find_made(places, {"seed": 1}, lambda place: keys[place.name]) == tmp_path / "b"
    assert find_made(places, {"seed": 2}, lambda place: keys[place.name]) is None
