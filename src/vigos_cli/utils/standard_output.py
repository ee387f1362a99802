"""Let a run go on if its messages cannot be written: a closed pipe, a full disk, a terminal with ASCII only.

vigos distill | head -1              the pipe is closed after one line; the run ends as without it
vigos distill > /full/disk/log       one line on stderr, once
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

LOST = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # EIO: the terminal is gone


class LossyFile(io.FileIO):
    """A file whose writes are dropped after one has failed."""

    def __init__(self, number: int):
        super().__init__(number, "w", closefd=False)
        self._lost = False

    def write(self, data: Any) -> int:
        """Write the bytes, or drop them."""
        size = memoryview(data).nbytes
        if self._lost:
            return size
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in LOST:
                raise
            self._lost = True
            if error.errno != errno.EPIPE and self.fileno() == 1:  # who closes a pipe knows it
                print(f"vigos: standard output: {os.strerror(error.errno)}; the run goes on", file=sys.stderr)
            return size


def lossy(number: int, encoding: str) -> io.TextIOWrapper:
    """A text file that writes to a descriptor, and shows characters outside its encoding as `\\u2192`."""
    buffered = io.BufferedWriter(LossyFile(number))
    lines = number == 2 or os.isatty(number)
    return io.TextIOWrapper(buffered, encoding=encoding, errors="backslashreplace", line_buffering=lines)


def keep_going() -> None:
    """Replace stdout and stderr, unless another program, such as a test, has done so."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__") and stream.fileno() == number:
            stream.flush()
            replaced = lossy(number, stream.encoding)
            setattr(sys, name, replaced)
            setattr(sys, f"__{name}__", replaced)  # the interpreter flushes both at its end
