"""Let only one run at a time write to a folder.

    with only_writer(out):        # FolderInUse if another process, here or on another machine, writes there
        ...

A scheduler may start a run again while its first process still lives, for example if the command that started
the cells of a sweep was killed and is repeated. The operating system releases the lock when its process ends.
On a file system without locks nothing is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vigos_cli.utils import process_group
from vigos_cli.utils.errors import FolderInUse

LOCK = ".writer.lock"
PATIENCE = 10.0  # seconds in which a run that was stopped just now may end


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock until the block ends; raises FolderInUse, on all processes.

    The first process holds it for all processes of the run.
    """
    lock = FileLock(folder / LOCK, fallback_to_soft=False)  # a soft lock would outlive a killed process
    busy = False
    if process_group.rank() == 0:
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            busy = True
        except OSError:  # a file system without locks
            pass
    try:
        if process_group.gather(busy)[0]:
            raise FolderInUse(f"out={folder}: another process writes to this folder; wait until it has ended")
        yield
    finally:
        lock.release()
