"""What several cells need and one of them makes: the first to come makes it, the others wait for it.

with once(sweep / ".untrained-3f2a9c.lock", is_there):
    ...                                 # here it is there, or it is this process that has to make it

The lock is the operating system's: it ends with its process, however that ends. Nobody waits for the dead.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE = 0.5  # seconds between two looks


@contextmanager
def once(lock: Path, is_there: Callable[[], bool]) -> Iterator[None]:
    """Enter when `is_there()`, or alone; who entered alone keeps the others waiting until it leaves."""
    with lock.open("w") as file:
        while not is_there():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(PAUSE)
            except OSError:  # a file system without locks: better made twice than never
                break
            else:
                is_there()  # the one before may have made it since
                break
        yield
