"""Measure the peak memory of this process, in total and for each phase."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

GIB = 2**30
_seen: dict[str, int] = {}  # the highest peak, in bytes, that `PhasePeaks` has reset, by device


def peak_gib(device: torch.device) -> float:
    """The peak so far in GiB: allocations on a GPU, resident memory of the process on a CPU."""
    return round(max(_peak(device), _seen.get(str(device), 0)) / GIB, 3)


def _peak(device: torch.device) -> int:
    """The peak since the last reset, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, else in kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class PhasePeaks:
    """The peak of each phase in bytes. Phases may be nested; an outer one includes the inner ones.

    On a CPU this needs Linux, where a process can reset its recorded peak. Elsewhere every phase reports the
    peak so far.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes: dict[str, int] = {}
        self._open: list[str] = []

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Measure the peak inside the block and add it to `bytes`."""
        self._note()
        self._open.append(phase)
        self._reset()
        try:
            yield
        finally:
            self._note()
            self._open.pop()
            self._reset()

    def _note(self) -> None:
        peak = self._peak()
        for phase in self._open:
            self.bytes[phase] = max(self.bytes.get(phase, 0), peak)

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        status = Path("/proc/self/status")
        if not status.exists():
            return int(peak_gib(self.device) * GIB)
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def _reset(self) -> None:
        _seen[str(self.device)] = max(_seen.get(str(self.device), 0), _peak(self.device))
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the recorded peak of resident memory
