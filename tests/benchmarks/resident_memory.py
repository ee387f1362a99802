"""The peak of resident memory while something runs, for the benchmarks."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path


def peak_memory(run: Callable[[], object]) -> int:
    """The bytes that `run` adds to this process at its largest moment. The process must be new."""
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # reset VmHWM
    run()
    return _read("VmHWM") - before


def resident() -> int:
    """The bytes that this process holds now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed but resident memory would hide the memory of a run
    return _read("VmRSS")


def _read(field: str) -> int:
    """Read VmRSS (now) or VmHWM (peak) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024
