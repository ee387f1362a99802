"""The first imports run without the garbage collector and without torch's compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from vigos_cli import __main__
from vigos_cli.cli import app
from vigos_cli.utils.heavy_imports import compiled_at_first_call

SCRIPT = """
import gc, sys, types
from vigos_cli.utils.heavy_imports import heavy_imports

with heavy_imports():
    assert not gc.isenabled()
    import bitsandbytes
    assert "torch._inductor.compile_fx" not in sys.modules      # a second
    sys.modules["transformers"] = types.ModuleType("transformers")
assert gc.isenabled()
import torch
assert torch.compile.__module__ == "torch"
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


@pytest.mark.slow
def test_the_collector_is_paused_once():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env={**os.environ, "PYTHONPATH": "src"})


def test_a_decorated_function_is_compiled_once_when_it_is_called():
    compiled: list[tuple[str, dict[str, Any]]] = []

    def compile_now(function: Callable[[int], int], **options: Any) -> Callable[[int], int]:
        compiled.append((function.__name__, options))
        return lambda number: function(number) + 100

    compile_later = compiled_at_first_call(compile_now)

    @compile_later(dynamic=False)
    def double(number: int) -> int:
        return 2 * number

    @compile_later
    def triple(number: int) -> int:
        return 3 * number

    assert (compiled, double.__name__) == ([], "double")
    assert [double(1), double(2), triple(1)] == [102, 104, 103]
    assert compiled == [("double", {"dynamic": False}), ("triple", {})]


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
