"""End the process if a thread had no memory to begin, because the thread that started it would wait for ever.

`Thread.start` waits until the new thread says that it runs. A thread that fails before it says so is only
mentioned on stderr (python/cpython#140746). Other errors of memory that Python cannot raise are dropped: they
come from destructors and from the end of the process, when the line about the memory has been printed.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from vigos_cli.utils.machine_errors import MEMORY


def watch_threads() -> None:
    """Use `on_unraisable` for the errors that Python cannot raise."""
    sys.unraisablehook = on_unraisable


def on_unraisable(error: Any) -> None:
    """Report an error that could not be raised, unless it is about memory; see the module's docstring."""
    if not issubclass(error.exc_type, MemoryError):
        sys.__unraisablehook__(error)
        return
    thread = getattr(error.object, "__self__", None)
    if isinstance(thread, threading.Thread) and not thread._started.is_set():  # pyright: ignore[reportAttributeAccessIssue]
        # A killed run goes on from its last checkpoint. Locks may be held, so nothing is tidied up here.
        os.write(2, f"vigos: {MEMORY}\n".encode())
        os._exit(1)
