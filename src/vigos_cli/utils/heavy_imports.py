"""Import torch and transformers in less time, and keep their objects away from the garbage collector.

    with heavy_imports():
        from vigos_cli.training.distill import distill

These modules make about a million objects that live as long as the process. The collector would look at all
of them several times while they are made, and again in each of its full passes during a run.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import inside the block without the collector, which leaves out everything that exists at its end.

    Later blocks change nothing: what a run leaves behind must be collected.
    """
    if "transformers" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
