"""What a process loses before it becomes `vigos`: rights, limits, clocks and outputs."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import warm

OVERRIDES = 0b1111  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER: the first four
VERSION = 0x20080522  # of Linux's capability interface


def without_rights(arguments: Sequence[str], umask: int = 0o022) -> None:
    """`vigos` as a user whom the modes of files bind: the administrator without the rights to ignore them."""
    os.umask(umask)
    if os.geteuid() == 0:
        libc, header, sets = (
            ctypes.CDLL(None, use_errno=True),
            (ctypes.c_uint32 * 2)(VERSION, 0),
            (ctypes.c_uint32 * 6)(),
        )
        assert libc.capget(header, sets) == 0
        for number in range(3):  # effective, permitted and inheritable
            sets[number] &= ~OVERRIDES
        assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
    warm.vigos(arguments)


def limited(arguments: Sequence[str], limits: Mapping[str, int]) -> None:
    """`vigos` with limits, by their names in `resource`; a negative one of RLIMIT_AS is what may be added."""
    for name, value in limits.items():
        number = getattr(resource, name)
        if value < 0:  # relative to what this process has mapped
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            value = pages * os.sysconf("SC_PAGE_SIZE") - value
        resource.setrlimit(number, (value, value))
    warm.vigos(arguments)


def with_clock(arguments: Sequence[str], seconds: float, after: float) -> None:
    """`vigos` on a machine whose clock is set by `seconds`, `after` seconds after the start."""
    real, until = time.time, time.monotonic() + after
    time.time = lambda: real() + (seconds if time.monotonic() > until else 0.0)
    warm.vigos(arguments)


def with_output(arguments: Sequence[str], number: int, path: str, encoding: str = "") -> None:
    """`vigos` whose stdout or stderr is a file, or a closed pipe, or has another encoding."""
    if path:
        other = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(other, number)
    elif not encoding:
        ends = os.pipe()
        os.close(ends[0])  # nobody reads
        os.dup2(ends[1], number)
    if encoding:
        sys.stdout.reconfigure(encoding=encoding, errors="strict")  # pyright: ignore[reportAttributeAccessIssue]
        sys.stderr.reconfigure(encoding=encoding)  # pyright: ignore[reportAttributeAccessIssue]
    warm.vigos(arguments)
