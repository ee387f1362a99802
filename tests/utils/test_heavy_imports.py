"""The garbage collector is paused during the first imports only, and keeps away from what they made."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vigos_cli import __main__
from vigos_cli.cli import app

SCRIPT = """
import gc, sys, types
from vigos_cli.utils.heavy_imports import heavy_imports

with heavy_imports():
    assert not gc.isenabled()
    sys.modules["transformers"] = types.ModuleType("transformers")
assert gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 1000

with heavy_imports():       # a second command of the same process: its garbage must stay collectable
    assert gc.isenabled()
    kept = [[] for _ in range(100)]
assert gc.get_freeze_count() <= frozen

del sys.modules["transformers"]
try:
    with heavy_imports():
        raise ImportError
except ImportError:
    assert gc.isenabled() and gc.get_freeze_count() <= frozen
"""


def test_the_collector_is_paused_once():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env={**os.environ, "PYTHONPATH": "src"})


@pytest.mark.parametrize(("given", "expected"), [(None, __main__.SPIN), ("7", "7")])
def test_threads_wait_without_spinning_unless_the_user_says_so(given, expected, monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if given:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    monkeypatch.setattr(app, "app", lambda *arguments, **options: 0)
    monkeypatch.setattr(sys, "argv", ["vigos"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 0 and os.environ["GOMP_SPINCOUNT"] == expected
    monkeypatch.delenv("GOMP_SPINCOUNT")
