"""Make a result once for several cells of a sweep: one cell makes it, the others wait.

A result has a key (the part of the configuration on which it depends), a place in each cell's folder, and a
maker. A cell that needs one asks for it like this:

    found = find_made(sweep.glob("*/before"), key, key_of)      # a folder that holds a result with this key
    with made_once(lock_file(sweep, "untrained", key), take_over) as missing:
        if missing:
            ...                                                 # make it; the other cells wait meanwhile

`take_over` returns whether the cell has the result, after it has copied it from another cell if one has it.

The operating system releases the lock when its process ends, so a killed cell does not block the others. On a
file system without locks no cell waits: a result may be made twice, which does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from vigos_cli.config.run_digest import hashed

PAUSE = 0.5  # seconds between two attempts of a waiting cell
Key = TypeVar("Key")


def find_made(places: Iterable[Path], key: Key, key_of: Callable[[Path], Key | None]) -> Path | None:
    """The first place, in order of names, whose result has this key.

    `key_of` reads the key of the result in a place; None means that no finished result is there.
    """
    return next((place for place in sorted(places) if key_of(place) == key), None)


def lock_file(sweep: Path, what: str, key: object) -> Path:
    """The lock of the result with this key; `key` must be a value that JSON can represent."""
    return sweep / f".{what}-{hashed(key)}.lock"


@contextmanager
def made_once(lock: Path, take_over: Callable[[], bool]) -> Iterator[bool]:
    """Wait until the result is there or the lock is free; yields whether the caller has to make the result.

    The lock is held until the block ends. A waiting process calls `take_over` before each attempt, so it goes
    on as soon as the result exists, even if its maker still holds the lock.
    """
    held = FileLock(lock, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    missing = not take_over()
    try:
        while missing:
            try:
                held.acquire(blocking=False)
            except Timeout:
                time.sleep(PAUSE)
                missing = not take_over()
            except OSError:  # a file system without locks
                break
            else:
                missing = not take_over()  # the previous holder may have made it in the meantime
                break
        yield missing
    finally:
        held.release()
